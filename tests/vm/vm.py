#!/usr/bin/env python3
"""vm.py: boots a stock Debian kernel under QEMU, runs scenarios on a DAX file system there, and
judges by what the guest says.

The guest's ordinary memory is a file of this machine, mapped shared; a part of it is declared
persistent memory (memmap=) and survives the machine in that file. Everything else of the guest is
lost when QEMU ends, however it ends, because each boot begins with an empty kernel. The other
device is QEMU's own NVDIMM, which has no command to clear a bad block.

  scenarios FS DEVICE NAME...   one boot, one guest process for each scenario (see guest.c):
                                NAME or PROGRAM.NAME
  live FS                       stop the machine in mid-commit; a block of the log that the next boot's recovery
                                needs is bad
  stops FS COUNT                COUNT times: boot on what is there, check it, work, stop the machine;
                                in the end everything acknowledged must be there

Exit status 77, with a line that says why, where the machine cannot be made. DAX_TEST_SEED is the
seed, DAX_TEST_DIR where the memory's file is (default /dev/shm), DAX_VM_KERNEL the kernel's image
(default: the newest in /boot that has its modules), DAX_VM_VERBOSE shows all that the guest says.
"""
import argparse
import ctypes
import glob
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ["qemu-system-x86_64", "busybox", "modprobe", "mkfs.ext4", "mkfs.xfs"]
SILENCE_S = 600  # of the guest: it hangs
MEMORY = "2048M"
DEVICE_AT = "512M!1G"
DEVICE_BYTES = 512 << 20


def skip(why):
    print(f"vm: skipped: {why}")
    sys.exit(77)


def fail(why):
    print(f"vm: FAILED: {why}")
    sys.exit(1)


def version_key(path):
    return [int(n) for n in re.findall(r"\d+", os.path.basename(path))]


def find_kernel():
    """The image and its version."""
    images = [os.environ["DAX_VM_KERNEL"]] if "DAX_VM_KERNEL" in os.environ else sorted(
        glob.glob("/boot/vmlinuz-*-amd64"), key=version_key, reverse=True)
    if not images:
        skip("there is no /boot/vmlinuz-*-amd64 (Debian package linux-image-amd64)")
    reasons = []
    for image in images:
        version = os.path.basename(image).removeprefix("vmlinuz-")
        if not os.access(image, os.R_OK):
            reasons.append(f"{image} cannot be read by this user")
        elif not glob.glob(f"/lib/modules/{version}/kernel/drivers/nvdimm/nd_pmem.ko"):
            reasons.append(f"{image} has no /lib/modules/{version}/.../nd_pmem.ko")
        else:
            return image, version
    return skip("; ".join(reasons))


def die_with_parent():
    """No machine outlives a test that was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Machine:
    """One guest's memory and devices, which last from boot to boot."""

    def __init__(self, options, device, fs):
        self.dir = tempfile.mkdtemp(prefix="daxtest-vm-", dir=os.environ.get("DAX_TEST_DIR", "/dev/shm"))
        self.device, self.fs, self.boots = device, fs, 0
        self.kernel, version = find_kernel()
        self.initrd = os.path.join(self.dir, "initrd")
        self.console = os.path.join(self.dir, "console")
        self.memory = os.path.join(self.dir, "memory")
        subprocess.run([os.path.join(HERE, "initramfs.sh"), self.initrd, version, options.extension,
                        *options.program], check=True)

    def close(self):
        shutil.rmtree(self.dir)

    def command(self, words):
        memory = f"memory-backend-file,id=m,mem-path={self.memory},share=on,size="
        # On a busy host the emulated timer may come too late for the kernel's test of it, which then panics.
        append = ["console=ttyS0", "quiet", "nokaslr", "panic=-1", "no_timer_check", f"dax.fs={self.fs}"]
        if self.device == "memmap":
            device = ["-machine", "pc,accel=tcg,memory-backend=m", "-m", MEMORY, "-object", memory + MEMORY]
            append.append(f"memmap={DEVICE_AT}")
        else:
            device = ["-machine", "pc,accel=tcg,nvdimm=on", "-m", MEMORY + ",slots=1,maxmem=4G", "-object",
                      memory + str(DEVICE_BYTES), "-device", "nvdimm,id=nvdimm,memdev=m"]
        # The second serial port is what the guest says; the first has the kernel's messages.
        return ["qemu-system-x86_64", *device, "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot",
                "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-serial", "file:" + self.console,
                "-serial", "stdio", "-kernel", self.kernel, "-initrd", self.initrd,
                "-append", " ".join(append + words)]

    def boot(self, run, seed, keep=False, arg="", listen=None):
        """Run the scenarios ("program.name"). listen(line) may return how many seconds later the
        machine is to be killed. Returns the guest's lines and how the machine ended: "end", "kill",
        "halt" (it stopped itself), or "died"."""
        words = [f"dax.run={','.join(run)}", f"dax.seed={seed}", f"dax.keep={'yes' if keep else 'no'}"]
        if arg:
            words.append(f"dax.arg={arg}")
        self.boots += 1
        process = subprocess.Popen(self.command(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   errors="replace", preexec_fn=die_with_parent)
        try:
            lines, killed = self.listen(process, listen)
        finally:
            process.kill()
            status = process.wait()
        for line in lines if "DAX_VM_VERBOSE" in os.environ else []:
            print("  guest:", line)
        if killed:
            return lines, "kill"
        if status == 3:  # QEMU's for the 1 that was written to the debug-exit port
            return lines, "halt"
        return lines, "end" if "end: done" in lines else "died"

    @staticmethod
    def listen(process, listen):
        incoming, lines, kill_at = queue.Queue(), [], None

        def pump():
            for line in process.stdout:
                incoming.put(line.rstrip("\r\n"))
            incoming.put(None)

        threading.Thread(target=pump, daemon=True).start()
        while True:
            try:
                left = SILENCE_S if kill_at is None else max(0, kill_at - time.monotonic())
                line = incoming.get(timeout=left)
            except queue.Empty:
                process.kill()
                if kill_at is None:
                    lines.append(f"(the guest said nothing for {SILENCE_S} s)")
                while (line := incoming.get()) is not None:  # said before it was killed
                    lines.append(line)
                return lines, kill_at is not None
            if line is None:
                return lines, False
            lines.append(line)
            delay = listen(line) if listen and kill_at is None else None
            if delay is not None:
                kill_at = time.monotonic() + delay

    def explain(self, lines, why):
        print("\n".join("  guest: " + line for line in lines[-60:]))
        if os.path.exists(self.console):
            with open(self.console, errors="replace") as f:
                print("".join("  console: " + line for line in f.readlines()[-30:]))
        fail(why)


def last_number(lines, word):
    found = [int(line.split()[1]) for line in lines if re.fullmatch(word + r" -?\d+", line)]
    return found[-1] if found else None


def judge(machine, lines, how, run):
    """Every scenario must have ended well, and the machine after them."""
    if how != "end":
        machine.explain(lines, f"the machine ended by \"{how}\" instead of finishing")
    for name in run:
        if f"verdict: {name} 0" not in lines:
            machine.explain(lines, f"scenario {name} on {machine.fs}")


def scenarios(machine, seed, names):
    run = [name if "." in name else f"vm_guest.{name}" for name in names]
    lines, how = machine.boot(run, seed)
    judge(machine, lines, how, run)
    for line in lines:
        if not line.startswith(("begin:", "verdict:", "end:")):
            print(line)
    print(f"figure: scenarios in the virtual machine, {machine.fs} ({machine.device}): {len(names)}")


class Stop:
    """When one boot's machine is to end: drawn before it starts."""

    KINDS = ["kill", "commit", "open", "commit", "close"]

    def __init__(self, rng, number):
        self.kind = self.KINDS[number % len(self.KINDS)]
        self.acks = rng.randrange(3, 40)
        self.delay = rng.random() * 0.05
        self.program = "vm_guest" if self.kind == "kill" else "vm_guest_linked"
        stores = rng.randrange(1, rng.choice([8, 60]))
        self.arg = {"kill": "", "commit": f"commit:{self.acks}:{stores}", "open": f"open:0:{stores}",
                    "close": f"close:0:{stores}"}[self.kind]
        self.seen = 0

    def __str__(self):
        return self.arg or f"kill {self.delay:.3f} s after {self.acks} acknowledgements"

    def listen(self, line):
        """The host's kill; where the machine is to stop itself, after so much that it never will."""
        self.seen += line.startswith("ack ")
        if self.kind == "kill":
            return self.delay if self.seen == self.acks else None
        return 0 if self.seen == self.acks + 400 else None

    def happened(self, how):
        return how in ("kill", "halt") or how == "end" and self.kind == "close"


def live(machine, seed):
    """The program that works ends by the machine's own stop, with records that are needed."""
    rng = random.Random(seed)
    stop = Stop(rng, Stop.KINDS.index("commit"))
    lines, how = machine.boot([f"{stop.program}.work"], seed, arg=stop.arg, listen=stop.listen)
    if how != "halt":
        machine.explain(lines, f"{stop}: the machine ended by \"{how}\"")
    acked = max([int(line.split()[1]) for line in lines if re.fullmatch(r"ack \d+", line)], default=0)
    run = ["vm_guest.media_live"]
    lines, how = machine.boot(run, seed, keep=True)
    judge(machine, lines, how, run)
    for line in lines:
        if not line.startswith(("begin:", "verdict:", "end:")):
            print(line)
    found = last_number(lines, "found")
    if found is None or found < acked:
        machine.explain(lines, f"transaction {found} is the last, {acked} was acknowledged")
    print(f"figure: commits acknowledged, then a bad block under a live record, {machine.fs}: {acked}")


def stops(machine, seed, count):
    rng = random.Random(seed)
    acked = within = total = replayed = 0
    for number in range(count + 1):
        last = number == count
        stop = Stop(rng, number)
        run = ["vm_guest.check"] if last else [f"{stop.program}.work"]
        lines, how = machine.boot(run, seed + number, keep=number > 0, arg="" if last else stop.arg,
                                  listen=None if last else stop.listen)
        if last:
            judge(machine, lines, how, run)
        elif not stop.happened(how):
            machine.explain(lines, f"{stop}: the machine ended by \"{how}\" by itself")
        found = last_number(lines, "found")
        if found is not None and found < acked or last and found is None:
            machine.explain(lines, f"transaction {found} is the last, {acked} was acknowledged")
        acks = [int(line.split()[1]) for line in lines if re.fullmatch(r"ack \d+", line)]
        acked, total = max([acked, found or 0] + acks), total + len(acks)
        halt = next((line for line in lines if line.startswith("halt ")), "")
        within += halt.startswith("halt commit")
        redo = sum(int(m[1]) for line in lines if (m := re.search(r"recovered: (\d+) transactions", line)))
        replayed += redo
        print(f"boot {number}: replayed {redo}, found {found}, acknowledged {acked}; "
              f"{'checked' if last else f'{stop}: {halt or how}'}", flush=True)
    print(f"figure: virtual machine stopped, {machine.fs}: {count}")
    print(f"figure: virtual machine stopped between two stores of a commit, {machine.fs}: {within}")
    print(f"figure: commits acknowledged before the virtual machine stopped, {machine.fs}: {total}")
    print(f"figure: transactions replayed after the virtual machine stopped, {machine.fs}: {replayed}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--extension", required=True)
    parser.add_argument("--program", action="append", required=True)
    parser.add_argument("what", choices=["scenarios", "live", "stops"])
    parser.add_argument("fs", choices=["ext4", "xfs"])
    parser.add_argument("rest", nargs="*")
    options = parser.parse_args()

    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        skip(f"not installed: {', '.join(missing)}")
    find_kernel()
    seed = int(os.environ.get("DAX_TEST_SEED") or "1")  # as tests/seed.h
    device = options.rest[0] if options.what == "scenarios" else "memmap"
    print(f"vm: DAX_TEST_SEED={seed} {options.what} {options.fs} {' '.join(options.rest)}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    machine = Machine(options, device, options.fs)
    try:
        if options.what == "scenarios":
            scenarios(machine, seed, options.rest[1:])
        elif options.what == "live":
            live(machine, seed)
        else:
            stops(machine, seed, int(options.rest[0]))
    finally:
        machine.close()
    print("vm: ok")


main()
