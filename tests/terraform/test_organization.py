"""Policies of an organization refuse parts of the default configuration, and switches leave these parts out."""

from collections.abc import Mapping
from subprocess import CompletedProcess

import pytest

from tests.terraform.organization import refusing

pytestmark = pytest.mark.timeout(1800)

UnderPolicies = Mapping[str, CompletedProcess[str]]


def test_switches_leave_out_what_an_organization_forbids(under_policies: UnderPolicies) -> None:
    """With the switches, no policy refuses anything. Without that of the notifications, its policy is named."""
    switched, notified = under_policies[""], under_policies["iam.allowedPolicyMemberDomains"]
    assert switched.returncode == 0, switched.stdout + switched.stderr
    assert notified.returncode == 1
    assert refusing(notified) == {"iam.allowedPolicyMemberDomains"}
    assert "cr-buildbucket@appspot.gserviceaccount.com" in notified.stdout + notified.stderr


def test_a_server_without_notifications_has_no_topic(under_policies: UnderPolicies) -> None:
    """Topic, grants and subscription of its publisher are left out."""
    planned = under_policies[""].stdout
    assert 'module.topic["commits"]' in planned
    assert 'module.topic["cr-buildbucket' not in planned
    assert "google_pubsub_topic_iam_member.publisher" not in planned
