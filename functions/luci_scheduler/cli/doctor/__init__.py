"""``luci-scheduler doctor``: checks that prove an installation from outside."""
