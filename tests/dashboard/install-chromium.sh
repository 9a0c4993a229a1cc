#!/bin/sh
# Installs Debian's Chromium for the tests in this folder, where it may: as root, or by a sudo that asks nothing.
# Where it cannot (another system, no rights, offline) it says so in one line, and those tests are skipped by name.
set -u
packages=chromium

skip() {
    echo "Chromium is not installed ($*): the tests that need it will be skipped"
    exit 0
}

for program in chromium chromium-browser google-chrome; do
    command -v $program >/dev/null && exit 0
done
# Ubuntu's package of that name is a snap, which needs a daemon.
grep -q '^ID=debian' /etc/os-release || skip "this is not Debian"
if [ "$(id -u)" = 0 ]; then
    as_root=env
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    skip "that needs root: sudo apt-get install --no-install-recommends $packages"
fi

quietly() {
    limit=$1
    shift
    $as_root DEBIAN_FRONTEND=noninteractive timeout "$limit" apt-get -qq -o Acquire::Retries=0 \
        -o Acquire::http::Timeout=10 -o DPkg::Lock::Timeout=60 "$@" >/dev/null 2>&1
}

# Only what waits for the network has a limit: an installation that is cut short is worse than none.
download() {
    quietly 300 install -y --no-install-recommends --download-only $packages
}

echo "Installing Chromium for the tests ($packages) ..."
# The lists may be there and new enough: an update is only for where they are not.
download || { quietly 60 update && download; } || skip "apt-get could not fetch it"
quietly 0 install -y --no-install-recommends --no-download $packages || skip "apt-get could not install it"
