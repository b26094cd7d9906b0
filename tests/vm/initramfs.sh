#!/usr/bin/env bash
# initramfs.sh OUT KERNEL EXTENSION PROGRAM...: the guest's whole root file system as one cpio archive.
#
# It holds what a stock Debian kernel needs to mount a DAX file system (busybox, modules, mkfs), the
# PROGRAMs, the extension that is tested, and the shared libraries of all of them. Nothing
# is compressed: unpacking is slower in an emulated machine than loading. Needs no root.
set -euo pipefail
out=${1:?usage: initramfs.sh OUT KERNEL EXTENSION PROGRAM...}
kernel=$2
extension=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

root=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,etc,modules,mnt,proc,run,sys,tmp}

add() { # file on this machine, path in the guest
    mkdir -p "$(dirname "$root$2")"
    [ -e "$root$2" ] || cp -L "$1" "$root$2"
}

add "$here/init.sh" /init
programs=("$@" "$(command -v busybox)" "$(command -v mkfs.ext4)" "$(command -v mkfs.xfs)" "$extension")
for program in "${programs[@]}"; do
    add "$program" "/bin/$(basename "$program")"
done

# Where the loader looks for them in the guest too: the paths that it has found here.
{ ldd "${programs[@]}" || true; } 2>/dev/null | # a static one makes it fail
    sed -n 's/^[[:space:]]\(.* => \)\?\(\/[^ ]*\) (.*/\2/p' | sort -u |
    while read -r library; do
        add "$library" "$library"
    done

# insmod's order; what several need comes once. A module that the kernel has built in has no file.
for module in nd_e820 nfit nd_pmem ext4 xfs; do
    modprobe -S "$kernel" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' |
    while read -r file; do
        case $file in
        *.ko) ;;
        *) echo "initramfs.sh: $file is compressed, which busybox cannot load" >&2 && exit 1 ;;
        esac
        add "$file" "/modules/$(basename "$file")"
        basename "$file" >>"$root/modules/order"
    done

(cd "$root" && find . -print0 | busybox cpio -0 -o -H newc) >"$out" 2>/dev/null
