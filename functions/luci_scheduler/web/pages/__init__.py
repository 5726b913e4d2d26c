"""The pages: each module reads one page's data through the service layer, builds its view, and renders it.

Every page has a bounded number of reads, independent of the length of the history:

=====================  ========================================================================================
page                   reads
=====================  ========================================================================================
projects               one for each project and each of its jobs
project                two for the project, one for each job, up to 8 for each of the 50 jobs on the page
job                    see ``api.overviews.get_job_overview``
invocation             one for the job, whose realm decides the permission; one for the invocation
commit                 see ``api.explain``
backfill               one for the job; the preview: see ``api.backfill``
=====================  ========================================================================================
"""
