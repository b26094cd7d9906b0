#!/bin/busybox sh
# The guest's first process: modules, the file system on /dev/pmem0, then the scenarios that the
# kernel's command line names (dax.run=PROGRAM.NAME,...), one process and one mount each.
#
# dax.fs=ext4|xfs, dax.keep=yes (mount what is there), dax.seed=N, dax.arg=TEXT. What the host is to
# read goes to the second serial port, so that no message of the kernel comes between.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tracefs trace /sys/kernel/tracing
exec </dev/null >/dev/ttyS1 2>&1
stty -opost -echo <&1

end() { # verdict of the machine
    echo "end: $1"
    reboot -f # QEMU's -no-reboot makes it leave
}

fs=none keep=no run='' seed=1 arg=''
for word in $(cat /proc/cmdline); do
    case $word in
    dax.fs=*) fs=${word#*=} ;;
    dax.keep=*) keep=${word#*=} ;;
    dax.run=*) run=${word#*=} ;;
    dax.arg=*) arg=${word#*=} ;;
    dax.seed=*) seed=${word#*=} ;;
    esac
done

while read -r module; do
    insmod "/modules/$module" || end "insmod $module failed"
done </modules/order

wait_for() { # path: the kernel makes it in its own time
    for i in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -e "$1" ] || return 0
        sleep 0.2
    done
    end "there is no $1"
}

# What is no memmap= region has memory for the struct pages that DAX needs set aside first, as
# "ndctl create-namespace -m fsdax" does.
wait_for /dev/pmem0
if ! cat /sys/block/pmem0/queue/dax | grep -q 1; then
    cd /sys/bus/nd
    echo namespace0.0 >drivers/nd_pmem/unbind
    cat /proc/sys/kernel/random/uuid >devices/pfn0.0/uuid
    echo ram >devices/pfn0.0/mode
    echo namespace0.0 >devices/pfn0.0/namespace
    echo pfn0.0 >drivers/nd_pmem/bind
    cd /
    wait_for /dev/pmem0
fi

if [ "$keep" = no ]; then
    case $fs in
    ext4) mkfs.ext4 -q -F -b 4096 /dev/pmem0 ;;
    xfs) mkfs.xfs -q -f -m rmapbt=1 -d agcount=2,su=2m,sw=1 /dev/pmem0 ;;
    esac || end "mkfs.$fs failed"
fi
export DAX_TEST_SEED=$seed DAX_TEST_DIR=/mnt DAX_TEST_EXTENSION=/bin/daxlite
export DAX_VM_FS=$fs DAX_VM_ARG=$arg
for scenario in $(echo "$run" | tr , ' '); do
    mount -t "$fs" -o dax=always /dev/pmem0 /mnt || end "mount failed"
    echo "begin: $scenario"
    "${scenario%%.*}" "${scenario#*.}"
    echo "verdict: $scenario $?"
    umount /mnt || end "umount failed"
done
end done
