#!/bin/sh
# Installs Debian's Grid Engine for the tests in this folder, where it may: as root, since only root can start its jobs.
programs="/usr/lib/gridengine/sge_qmaster /usr/lib/gridengine/sge_execd"
[ -e /usr/lib/gridengine/sge_qmaster ] && [ -e /usr/lib/gridengine/sge_execd ] && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "Grid Engine is not installed (only root can start its jobs): the tests that need it will be skipped"
    exit 0
fi
packages="gridengine-master gridengine-exec gridengine-client"
# It wants something that sends mail: the smallest there is, which is no server, unless there is one already.
[ -e /usr/sbin/sendmail ] || packages="$packages dma"
# No cluster of the machine's own is set up.
command -v debconf-set-selections >/dev/null &&
    echo "gridengine-common shared/gridengineconfig boolean false" | debconf-set-selections
exec sh "$(dirname "$0")/../install-debian.sh" "Grid Engine" "$packages" $programs
