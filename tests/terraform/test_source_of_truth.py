"""Terraform sets the values that the code reads: settings, queue, topics, subscriptions, log events."""

import json
import re
from dataclasses import fields
from pathlib import Path

import functions_framework
import pytest

from emulator import settings as local
from emulator.memory.ports import memory_ports
from emulator.supervisor import ALL_FUNCTIONS, FUNCTIONS
from emulator.topics import subscriptions
from luci_scheduler.api.access import Permission, load_access
from luci_scheduler.bootstrap import make_app
from luci_scheduler.cli.doctor.inside import Names
from luci_scheduler.core.identity import user
from luci_scheduler.core.instants import SECOND
from luci_scheduler.core.topic_names import topic_names
from luci_scheduler.settings import PREFIX, Settings, WebhookSettings, variable_of
from luci_scheduler.settings_reader import read_settings, read_webhook_settings
from tests.terraform.configurations import BUILDS, EVERYTHING, PROJECT, SERVERS
from tests.terraform.life import Life
from tests.terraform.services import EVENTS
from tests.terraform.tool import REPOSITORY, ROOT
from tests.unit.test_observability import _events

pytestmark = pytest.mark.timeout(1800)

NOT_SET = {
    "topic_project": "Terraform names each server's topic in full",
    "task_audience": "the default, the address of on_task, is the audience that Cloud Run expects",
    "oidc_certs_url": "the default is the address of Google's keys",
    "run_api_url": "the default is Google's",
    "tokeninfo_url": "the default is Google's",
    "iap_certs_url": "the default is the address of IAP's keys",
    "local_user": "the local cloud's",
    "local_service": "the local cloud's",
    "gitiles_urls": "the local cloud's",
    "links": "the local cloud's",
    "storage_url": "the default is Cloud Storage itself",
    "config_folder": "the local cloud's",
    "config_revision": "the local cloud's",
    "cloud_tasks_endpoint": "the local cloud's",
    "pubsub_url": "the default is Google's",
    "cloud_build_url": "the default is Google's",
    "github_token": "the configuration with every option has an app; the example for GitHub sets it",
    "console_url": "the local cloud's",
    "local": "the local cloud's",
}
"""Setting → the reason why an installation does not set it."""

GITHUB_CALLERS = {"on_gitiles_commit", "on_task", "console"}
"""The functions that call commit hosts."""
ONLY = {
    "push_account": EVENTS,
    "push_audience": EVENTS,
    "trust_front_end": {*EVENTS, "on_task"},
    "next_token_secret": {*EVENTS, "on_task"},
    "access": {"console"},
    "console_audiences": {"console"},
    "console_oauth_clients": {"console"},
    "iap_audience": {"console"},
}
"""Setting → the functions that have it. A change of it then changes these functions only."""

FRAMEWORK = {"FUNCTION_TARGET", "THREADS", "CLOUD_RUN_TIMEOUT_SECONDS", "LOG_EXECUTION_ID"}
"""Variables of the functions framework. Cloud Run sets none of them for a service that it does not build."""


def _secret_names(life: Life) -> dict[str, set[str]]:
    """Return the secret variables of each entry point."""
    return {function: set(service.secrets) for function, service in life.services.items()}


def test_settings_are_the_functions_environment(everything: Life) -> None:
    """Every setting is set or has a reason, and every variable is a setting. The webhook has separate settings."""
    secrets = _secret_names(everything)
    assert set(everything.environments) == set(ALL_FUNCTIONS)
    settings = {name for field in fields(Settings) if (name := variable_of(field)).startswith(PREFIX)}
    not_set = {PREFIX + name.upper() for name in NOT_SET}
    only = {PREFIX + name.upper(): functions for name, functions in ONLY.items()}
    assert not_set <= settings, "NOT_SET names an unknown setting"
    for function in set(everything.environments) - {"on_github_push"}:
        environment = everything.environments[function]
        elsewhere = {name for name, functions in only.items() if function not in functions}
        assert set(environment) - FRAMEWORK | secrets[function] == settings - not_set - elsewhere, function


def test_the_webhook_has_its_settings_and_no_other(everything: Life) -> None:
    """It has no address of a queue or a database, and no key of another function."""
    settings = {variable_of(field) for field in fields(WebhookSettings)} - {f"{PREFIX}PUBSUB_URL", f"{PREFIX}LOCAL"}
    service = everything.services["on_github_push"]
    assert set(service.environment) - FRAMEWORK | set(service.secrets) == settings
    secrets = {name: f"the secret {name}" for name in service.secrets}
    read = read_webhook_settings({**service.environment, **secrets})
    assert read.commit_topic == everything.outputs["commit_topic"]
    assert read.project == PROJECT
    assert set(read.commit_hosts.configured) == {"github.com", "git.example.com"}


def _settings(life: Life, function: str) -> Settings:
    """Return what the function reads; each secret holds its own name."""
    service = life.services[function]
    return read_settings({**service.environment, **{name: f"the secret {name}" for name in service.secrets}})


def test_the_framework_reads_its_variables(life: Life) -> None:
    """The framework starts the named function, with a thread for each request and the service's time limit."""
    folder = Path(functions_framework.__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    for name in FRAMEWORK:
        assert f'"{name}"' in source, name
    for function, service in life.services.items():
        given = {name: value for name, value in service.environment.items() if name in FRAMEWORK}
        assert given == {
            "FUNCTION_TARGET": function,
            "THREADS": str(service.concurrency),
            "CLOUD_RUN_TIMEOUT_SECONDS": str(service.timeout_seconds),
            "LOG_EXECUTION_ID": "true",
        }


def test_the_runtime_is_that_of_the_locked_dependencies() -> None:
    """The default of ``image.runtime`` is the Python version for which the dependencies are locked."""
    variables = (REPOSITORY / ROOT / "variables.tf").read_text(encoding="utf-8")
    lock = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r'runtime += optional\(string, "python3(\d+)"\)', variables) == re.findall(
        r"--python-version 3\.(\d+)", lock
    )


def test_one_image_runs_all_functions(life: Life) -> None:
    """All four services run the image that one build made."""
    (image,) = {service.image for service in life.services.values()}
    outputs = life.outputs.get("next", life.outputs)
    assert image == outputs["image"]
    (builder,) = life.all("google_cloudfunctions2_function")
    assert builder["build_config"][0]["on_deploy_update_policy"]
    assert set(outputs["revisions"]) == set(life.services) - {"on_github_push"}


def test_pushes_are_authenticated(life: Life) -> None:
    """An event function expects the account and the audience of its subscriptions' tokens."""
    # Without a Buildbucket server, there is no topic for on_build_completion.
    unused = set() if _settings(life, "on_task").buildbucket_servers else {"on_build_completion"}
    called = EVENTS & set(life.services) - unused
    expected = {
        (settings.push_account, settings.push_audience)
        for settings in (_settings(life, function) for function in called)
    }
    pushed = [push for item in life.all("google_pubsub_subscription") for push in item["push_config"]]
    tokens = [token for push in pushed for token in push["oidc_token"]]
    assert {(token["service_account_email"], token["audience"]) for token in tokens} == expected
    for function in EVENTS & set(life.services):
        assert f"https://{life.services[function].name}-" in _settings(life, function).push_audience
        assert _settings(life, function).trust_front_end


def test_the_console_trusts_one_front_end(minimal: Life, production: Life, everything: Life) -> None:
    """Behind Identity-Aware Proxy only its assertions count. A stripped token is not trusted."""
    for life in (minimal, production):
        settings, service = _settings(life, "console"), life.services["console"]
        assert service.iap
        assert re.fullmatch(rf"/projects/\d+/locations/us-central1/services/{service.name}", settings.iap_audience)
        assert not settings.trust_front_end
    (backend,) = everything.all("google_compute_backend_service")
    assert not everything.services["console"].iap
    assert _settings(everything, "console").iap_audience.endswith(f"/backendServices/{backend['generated_id']}")
    assert not any(service.open for service in everything.services.values())


def test_the_examples_let_people_in(minimal: Life, production: Life) -> None:
    """The deployer of the minimal example may do everything, and the team of the production example sees all jobs."""
    you, stranger = user("me@example.com"), user("builder@example.com")
    for life in (minimal, production):
        access = load_access(_settings(life, "console").access)
        assert not access.problem
        assert access.allows(you, Permission.ABORT, "demo", "ci")
        assert access.allows(stranger, Permission.GET, "demo", "ci") == (life is production)
        assert not access.allows(stranger, Permission.TRIGGER, "demo", "ci")
        (users,) = life.all("google_iap_web_cloud_run_service_iam_binding")
        assert "user:me@example.com" in users["members"]


def test_keys_reach_the_functions(minimal: Life, everything: Life) -> None:
    """The current key signs, and the next and the previous one verify. The console signs only for itself."""
    for life, previous in ((minimal, set()), (everything, {"SCHEDULER_PREVIOUS_TOKEN_SECRET"})):
        for function, secrets in _secret_names(life).items():
            following = set() if function == "console" else {"SCHEDULER_NEXT_TOKEN_SECRET"}
            keys = {name: secret for name, secret in life.services[function].secrets.items() if "TOKEN_SECRET" in name}
            if function == "on_github_push":
                assert not keys
                continue
            assert keys.keys() == {"SCHEDULER_TOKEN_SECRETS"} | following | previous
            assert secrets - keys.keys() <= {"SCHEDULER_GITHUB_PRIVATE_KEY"}
            account = "console" if function == "console" else "functions"
            assert all(name.endswith(account) for name in keys.values())


def test_the_functions_accept_their_environment(life: Life) -> None:
    """The settings class reads Terraform's values with their intended meaning."""
    for function in set(life.services) - {"on_github_push"}:
        settings = _settings(life, function)
        assert settings.project == PROJECT
        (queue,) = life.all("google_cloud_tasks_queue")
        assert (settings.queue, settings.location) == (queue["name"], queue["location"])
        (database,) = life.all("google_firestore_database")
        assert settings.database == database["name"]
        topics = {topic["id"] for topic in life.all("google_pubsub_topic")}
        assert {server.topic for server in settings.buildbucket_servers} < topics
        assert settings.task_account.partition("@")[0].endswith("sched-tasks")
        assert [caller.partition("@")[0][-10:] for caller in settings.task_callers] == ["sched-cron"]


def test_tuning_reaches_the_functions(everything: Life) -> None:
    """Each number of ``tuning`` is a setting of the same name."""
    settings = _settings(everything, "on_task")
    assert {name: getattr(settings, name) for name in EVERYTHING["tuning"]} == EVERYTHING["tuning"]
    assert sorted(settings.fetch_allowed_hosts) == sorted(EVERYTHING["fetch_allowed_hosts"])
    settings = _settings(everything, "console")
    assert sorted(settings.console_oauth_clients) == sorted(EVERYTHING["console"]["oauth_clients"])


def test_no_access_token_is_accepted_by_default(minimal: Life) -> None:
    """The variable's default lists no client."""
    assert _settings(minimal, "console").console_oauth_clients == ()


def test_config_sources_reach_the_functions(everything: Life) -> None:
    """Repositories and buckets arrive as the settings class expects, and omitted members have its defaults."""
    settings = _settings(everything, "on_task")
    in_repository, in_bucket, on_github = settings.config_sources
    assert (in_repository.kind, in_repository.path, in_repository.ref) == ("gitiles", "a/b.cfg", "refs/heads/main")
    assert (in_bucket.kind, in_bucket.bucket, in_bucket.object) == ("bucket", "the-configs", "other/luci-scheduler.cfg")
    assert (on_github.kind, on_github.repo) == ("github", "https://git.example.com/team/builds")


def test_builds_of_the_example_run_as_the_account_of_the_module(github: Life) -> None:
    """Without members of the variable, there is one project and one account, and definitions may name no other."""
    settings = _settings(github, "on_task")
    assert settings.cloud_build
    assert (settings.cloud_build_project, settings.cloud_build_location) == (PROJECT, "global")
    assert settings.cloud_build_account == f"sched-steps@{PROJECT}.iam.gserviceaccount.com"
    assert settings.cloud_build_projects is None


def test_builds_of_cloud_build_reach_the_functions(everything: Life) -> None:
    """The default is the module's account in the builds' project. Definitions may name others of the variable."""
    settings, steps = _settings(everything, "on_task"), f"staging-eu-sched-steps@{BUILDS}.iam.gserviceaccount.com"
    assert (settings.cloud_build_project, settings.cloud_build_account) == (BUILDS, steps)
    assert settings.cloud_build_projects == {
        BUILDS: (f"documents@{BUILDS}.iam.gserviceaccount.com", steps),
        PROJECT: (f"release@{PROJECT}.iam.gserviceaccount.com",),
    }
    given = EVERYTHING["cloud_build"]
    assert settings.cloud_build_location == given["location"]
    assert settings.cloud_build_check_interval_seconds == given["check_interval_seconds"]
    assert settings.cloud_build_run_seconds == given["run_seconds"]


def test_there_are_no_builds_of_cloud_build_by_default(minimal: Life, production: Life) -> None:
    """Without the objects, nothing of them is in an installation."""
    for life in (minimal, production):
        assert set(life.services) == set(FUNCTIONS)
        assert not _settings(life, "on_task").cloud_build
        new = "cloud-builds|sched-(steps|webhook)|GITHUB|CLOUD_BUILD|COMMIT_HOSTS|sts.google|identity_pool|custom_role"
        assert [found.address for found in life.resources if re.search(new, f"{found.address} {found.values}")] == []


def test_functions_that_call_github_have_the_token(github: Life) -> None:
    """The functions that call commit hosts have it, and no other function has it."""
    assert _settings(github, "on_task").github_token == "the secret SCHEDULER_GITHUB_TOKEN"
    assert github.services["on_task"].secrets["SCHEDULER_GITHUB_TOKEN"] == "github-token"
    assert {
        name for name, item in github.services.items() if "SCHEDULER_GITHUB_TOKEN" in item.secrets
    } == GITHUB_CALLERS


def test_one_host_gets_the_credentials_of_github(everything: Life) -> None:
    """With commit statuses, all functions but the webhook have them, for one of the hosts."""
    for function in {*FUNCTIONS, "on_cloud_build"}:
        settings = _settings(everything, function)
        assert "SCHEDULER_GITHUB_PRIVATE_KEY" in everything.services[function].secrets
        assert settings.github_app_id == EVERYTHING["github"]["app"]["id"]
        assert settings.github_statuses
        hosts = settings.commit_hosts.configured
        assert {name: host.credentials for name, host in hosts.items()} == {
            "github.com": False,
            "git.example.com": True,
        }
        assert hosts["git.example.com"].api == EVERYTHING["github"]["hosts"]["git.example.com"]


def test_announcements_are_off_by_default(life: Life, everything: Life) -> None:
    """The functions know the topic only if there is one."""
    topics = {topic["id"] for topic in life.all("google_pubsub_topic") if topic["name"].endswith("invocation-events")}
    assert {_settings(life, function).events_topic for function in FUNCTIONS} == (topics or {""})
    assert bool(topics) == (life is everything)


def test_without_a_prefix_topics_have_the_original_names(production: Life) -> None:
    """Terraform passes the names that the code would derive."""
    settings = _settings(production, "on_task")
    assert len(settings.buildbucket_servers) == 2
    for server in settings.buildbucket_servers:
        assert server.topic == topic_names(PROJECT, "buildbucket", server.publisher).topic


def test_tasks_are_sent_to_the_address_of_on_task(life: Life) -> None:
    """Address and audience of tasks, of schedules and of on_task agree."""
    environment = life.environments["on_task"]
    url = environment["SCHEDULER_TASK_URL"]
    assert re.fullmatch(rf"https://{life.services['on_task'].name}-\d+\.us-central1\.run\.app", url)
    jobs = {job["name"].rpartition("-")[2]: job["http_target"][0] for job in life.all("google_cloud_scheduler_job")}
    assert {kind: job["uri"] for kind, job in jobs.items()} == {"sync": f"{url}/sync", "sweep": f"{url}/sweep"}
    for job in jobs.values():
        (token,) = job["oidc_token"]
        assert (token["audience"], token["service_account_email"]) == (url, environment["SCHEDULER_TASK_CALLERS"])


def test_the_local_queue_is_the_cloud_s(minimal: Life) -> None:
    """Rates and retries of the local cloud's queue are those of Terraform."""
    (queue,) = minimal.all("google_cloud_tasks_queue")
    (rates,), (retries,) = queue["rate_limits"], queue["retry_config"]
    assert queue["name"] == local.QUEUE
    assert queue["location"] == local.LOCATION
    assert rates["max_dispatches_per_second"] == local.QUEUE_RATES.max_dispatches_per_second
    assert rates["max_concurrent_dispatches"] == local.QUEUE_RATES.max_concurrent_dispatches
    expected = local.QUEUE_RETRIES
    assert retries["max_attempts"] == expected.max_attempts
    assert retries["max_doublings"] == expected.max_doublings
    assert _seconds(retries["max_retry_duration"]) * SECOND == expected.max_retry_duration
    assert _seconds(retries["min_backoff"]) * SECOND == expected.min_backoff
    assert _seconds(retries["max_backoff"]) * SECOND == expected.max_backoff


def test_the_queue_is_as_wide_as_on_task(life: Life) -> None:
    """The queue dispatches no more tasks than on_task has capacity for, because a refused task slows the queue down."""
    (queue,) = life.all("google_cloud_tasks_queue")
    on_task = life.services["on_task"]
    room = on_task.max_instances * on_task.concurrency
    assert queue["rate_limits"][0]["max_concurrent_dispatches"] == room


def test_the_local_subscriptions_are_the_cloud_s(minimal: Life) -> None:
    """Topics, names, deadlines, pauses, attempts and dead letters of the local cloud are those of Terraform."""
    local = {item.subscription: item for item in subscriptions(PROJECT, [server["publisher"] for server in SERVERS])}
    kept = {item["id"]: item for item in minimal.all("google_pubsub_subscription") if not item["push_config"]}
    pushed = {item["id"]: item for item in minimal.all("google_pubsub_subscription") if item["push_config"]}
    assert set(pushed) == set(local)
    assert {item.dead_letter_subscription for item in local.values()} == set(kept) - {
        f"projects/{PROJECT}/subscriptions/luci-scheduler-key-rotation"
    }
    names = {function: service.name for function, service in minimal.services.items()}
    for name, item in local.items():
        cloud = pushed[name]
        (push,), (retry,), (dead) = cloud["push_config"], cloud["retry_policy"], cloud["dead_letter_policy"][0]
        (token,) = push["oidc_token"]
        assert cloud["topic"] == item.topic
        assert cloud["ack_deadline_seconds"] == item.ack_deadline_seconds
        assert _seconds(retry["minimum_backoff"]) == item.minimum_backoff_seconds
        assert _seconds(retry["maximum_backoff"]) == item.maximum_backoff_seconds
        assert dead["max_delivery_attempts"] == item.max_delivery_attempts >= 20
        assert dead["dead_letter_topic"] == item.dead_letter_topic
        assert kept[item.dead_letter_subscription]["topic"] == item.dead_letter_topic
        assert push["push_endpoint"] == item.endpoint(token["audience"])
        assert token["audience"].startswith(f"https://{names[item.function]}-")


def test_the_doctor_knows_the_parts_of_an_installation(minimal: Life, everything: Life) -> None:
    """It makes the names of functions and subscriptions from the console's answer, those of optional parts included."""
    for life in (minimal, everything):
        found = make_app(_settings(life, "console"), memory_ports()).installation
        names = Names(
            project=found.project,
            location=found.location,
            database=found.database,
            queue=found.queue,
            prefix=life.services["console"].name.removesuffix("luci-scheduler-console"),
            build_topics=found.topics,
            build_projects=found.build_projects,
            build_accounts=found.build_accounts,
        )
        pushed = [item["id"] for item in life.all("google_pubsub_subscription") if item["push_config"]]
        assert sorted(names.subscriptions) == sorted(pushed)
        functions = {*names.functions, *(["on_github_push"] if life is everything else [])}
        assert {names.service(function) for function in functions} == {item.name for item in life.services.values()}


def test_notifications_of_builds_come_from_every_project_of_builds(github: Life, everything: Life) -> None:
    """A subscription of this project is attached to each topic `cloud-builds`. Starts of builds are filtered out."""
    for life, projects in ((github, {PROJECT}), (everything, {PROJECT, BUILDS})):
        found = [item for item in life.all("google_pubsub_subscription") if item["topic"].endswith("/cloud-builds")]
        assert {item["topic"] for item in found} == {f"projects/{project}/topics/cloud-builds" for project in projects}
        for item in found:
            assert item["project"] == PROJECT
            assert item["filter"] == 'attributes.status != "WORKING"'
            (push,), (expiration,) = item["push_config"], item["expiration_policy"]
            assert push["push_endpoint"] == f"{push['oidc_token'][0]['audience']}/{item['topic']}"
            assert expiration["ttl"] == ""
        made = [topic["project"] for topic in life.all("google_pubsub_topic") if topic["name"] == "cloud-builds"]
        assert made == [PROJECT if life is github else BUILDS], "the other topic exists already"


def test_functions_have_the_time_limits_of_their_callers(life: Life) -> None:
    """A function's limit is that of its subscription; on_task's is above the dispatch deadline of a task."""
    from luci_scheduler.adapters import cloud_tasks

    limits = {service.name: service.timeout_seconds for service in life.services.values()}
    for item in life.all("google_pubsub_subscription"):
        for push in item["push_config"]:
            (limit,) = [
                seconds for name, seconds in limits.items() if push["push_endpoint"].startswith(f"https://{name}-")
            ]
            assert limit == item["ack_deadline_seconds"]
    (on_task,) = [seconds for name, seconds in limits.items() if name.endswith("on-task")]
    assert on_task > cloud_tasks._DISPATCH_DEADLINE


def test_metrics_count_lines_that_the_functions_log(everything: Life) -> None:
    """Each event name in a metric's filter is logged somewhere in functions/, and so is each member."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "functions").rglob("*.py"))
    metrics = [item for item in everything.all("google_logging_metric") if "jsonPayload.message=(" in item["filter"]]
    assert len(metrics) == 20
    logged = _events()
    for metric in metrics:
        events = re.findall(r'"(\w+)"', metric["filter"].partition("jsonPayload.message=(")[2].partition(")")[0])
        assert events, metric["name"]
        assert set(events) <= logged.keys(), metric["name"]
        for name in set(re.findall(r"jsonPayload\.(\w+)[!<>=]", metric["filter"])) - {"message"}:
            assert re.search(rf'\b{name}=|"{name}":', source), name


def test_every_error_is_counted(everything: Life) -> None:
    """An ERROR line is lost work or a defect, so it raises an alert or counts as a refused message on the dashboard."""
    page = (REPOSITORY / "docs/reference/observability.md").read_text(encoding="utf-8")
    errors = set(re.findall(r"^\| `(\w+)` \| ERROR \|", page, re.MULTILINE))
    alerts = json.dumps(everything.all("google_monitoring_alert_policy"))
    counted = "".join(
        metric["filter"]
        for metric in everything.all("google_logging_metric")
        if f"user/{metric['name']}" in alerts or metric["name"].endswith("/refused")
    )
    not_counted = {event for event in errors if f'"{event}"' not in counted}
    assert not_counted == set()


def test_the_dashboard_shows_every_metric(everything: Life) -> None:
    """The dashboard shows each metric, except those of a separate alert."""
    (board,) = everything.all("google_monitoring_dashboard")
    shown = json.dumps(json.loads(board["dashboard_json"]))
    for metric in everything.all("google_logging_metric"):
        name = metric["name"].rpartition("/")[2]
        if name not in ("sweeps", "errors"):
            assert f"user/{metric['name']}" in shown, name


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))
