"""The pages: each module reads one page's data through the service layer, builds its view, and renders it.

Every page has a bounded number of reads, independent of the length of the history and of the number of jobs:

=====================  ========================================================================================
page                   reads
=====================  ========================================================================================
projects               see ``api.overviews.get_project_summaries``
project                see ``api.overviews.get_project_overview``
job                    see ``api.overviews.get_job_overview``
invocation             one for the job, whose realm decides the permission; one for the invocation
commit                 see ``api.explain``
backfill               one for the job; the preview: see ``api.backfill``
=====================  ========================================================================================
"""
