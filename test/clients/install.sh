#!/bin/sh
# Installs the mail programs that "make test-clients" drives, those that are missing, from
# Debian's packages. That takes root; others are told what is missing, and the tests of
# those programs are skipped.
set -eu

missing=
while read -r command package; do
	command -v "$command" >/dev/null || missing="$missing $package"
done <<END
python3 python3
curl curl
swaks swaks
msmtp msmtp
mbsync isync
getmail getmail6
offlineimap offlineimap3
neomutt neomutt
END

# What swaks needs for TLS is only recommended by its package.
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "not installed, and left out:$missing (as root on Debian: apt-get install$missing)" >&2
	exit 0
fi
apt-get update -q
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
