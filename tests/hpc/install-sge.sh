#!/bin/sh
# Installs Debian's Grid Engine for the tests in this folder, where it may: as root, since only root can start its jobs.
# Where it cannot (another system, no rights, offline) it says so in one line, and those tests are skipped by name.
set -u
packages="gridengine-master gridengine-exec gridengine-client"
policy=/usr/sbin/policy-rc.d

skip() {
    echo "Grid Engine is not installed ($*): the tests that need it will be skipped"
    exit 0
}

[ -e /usr/lib/gridengine/sge_qmaster ] && [ -e /usr/lib/gridengine/sge_execd ] && exit 0
command -v apt-get >/dev/null || skip "this is neither Debian nor Ubuntu"
[ "$(id -u)" = 0 ] || skip "the tests do not run as root, without which it starts no jobs"
# It wants something that sends mail: the smallest there is, which is no server, unless there is one already.
[ -e /usr/sbin/sendmail ] || packages="$packages dma"

# The packages start their services when they are installed; the tests start their own, and nobody asked for these.
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
fi

quietly() {
    limit=$1
    shift
    env DEBIAN_FRONTEND=noninteractive timeout "$limit" apt-get -qq -o Acquire::Retries=0 \
        -o Acquire::http::Timeout=10 -o DPkg::Lock::Timeout=60 "$@" >/dev/null 2>&1
}

# Only what waits for the network has a limit: an installation that is cut short is worse than none.
download() {
    quietly 120 install -y --no-install-recommends --download-only $packages
}

echo "Installing Grid Engine for the tests ($packages) ..."
# No cluster of the machine's own is set up.
echo "gridengine-common shared/gridengineconfig boolean false" | debconf-set-selections
# The lists may be there and new enough: an update is only for where they are not.
download || { quietly 60 update && download; } || skip "apt-get could not fetch it"
quietly 0 install -y --no-install-recommends --no-download $packages || skip "apt-get could not install it"
