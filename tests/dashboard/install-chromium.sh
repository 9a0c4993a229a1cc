#!/bin/sh
# Installs Debian's Chromium for the tests in this folder, where it may.
for program in chromium chromium-browser google-chrome; do
    command -v $program >/dev/null && exit 0
done
# Ubuntu's package of that name is a snap, which needs a daemon.
if ! grep -q '^ID=debian' /etc/os-release; then
    echo "Chromium is not installed (this is not Debian): the tests that need it will be skipped"
    exit 0
fi
exec sh "$(dirname "$0")/../install-debian.sh" Chromium chromium chromium
