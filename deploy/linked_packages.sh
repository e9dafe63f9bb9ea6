#!/usr/bin/env bash
# linked_packages.sh PROGRAM - the Debian packages whose shared libraries PROGRAM is linked with, itself
# and through them, one a line: what a run stage has to install. Fails when one of them is not found.
set -euo pipefail
ldd "$1" | awk '
    $2 == "=>" && $3 == "not" {print "linked_packages.sh: the loader does not find " $1 >"/dev/stderr"; bad = 1}
    $2 == "=>" && $3 ~ /^\// {print $3}
    END {exit bad}' | while read -r library; do
    # The file database knows a library by the path its package has, which may be behind a link.
    for path in "$library" "/usr$library" "$(readlink -f "$library")"; do
        if owner=$(dpkg-query -S "$path" 2>/dev/null); then
            echo "${owner%%:*}"
            continue 2
        fi
    done
    echo "linked_packages.sh: no package owns $library" >&2
    exit 1
done | sort -u
