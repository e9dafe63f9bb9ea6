# packages.sh - sourced: installs Debian packages that are missing. Says what it installs.

# need PACKAGE...: nothing when all are there; else apt-get, as root or through sudo.
need() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing: ${missing[*]}"
    local sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "please run as root: apt-get install ${missing[*]}" >&2; return 1; }
        sudo=sudo
    fi
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

BUILD_PACKAGES=(gcc libc6-dev cmake ninja-build pkg-config git libmicrohttpd-dev libuv1-dev
    libjansson-dev libutf8proc-dev libdnnl-dev libsqlite3-dev nettle-dev
    libcurl4-openssl-dev)
