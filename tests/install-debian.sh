#!/bin/sh
# Installs packages of Debian for tests, where it may: as root, or by a sudo that asks nothing. Where it cannot (another
# system, no rights, offline) it says so in one line, and the tests that need them are skipped by name.
#     install-debian.sh NAME "PACKAGES" PROGRAM...      nothing is done if every PROGRAM is there
set -u
name=$1 packages=$2
shift 2
policy=/usr/sbin/policy-rc.d

skip() {
    echo "$name is not installed ($*): the tests that need it will be skipped"
    exit 0
}

PATH=$PATH:/usr/sbin
missing=
for program in "$@"; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || skip "this is neither Debian nor Ubuntu"
if [ "$(id -u)" = 0 ]; then
    as_root=env
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    skip "that needs root: sudo apt-get install --no-install-recommends $packages"
fi

# Packages start their services when they are installed; the tests start their own, and nobody asked for these.
if [ ! -e $policy ]; then
    trap '$as_root rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null && $as_root chmod 755 $policy
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

echo "Installing $name for the tests ($packages) ..."
# The lists may be there and new enough: an update is only for where they are not.
download || { quietly 60 update && download; } || skip "apt-get could not fetch it"
quietly 0 install -y --no-install-recommends --no-download $packages || skip "apt-get could not install it"
