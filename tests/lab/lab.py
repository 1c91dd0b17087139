#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The lab: a stock QEMU and Debian's own kernel around a model of a chip, so that a real kernel is between driver and chip.

`ingot chip --qemu` is the chip, on this side; QEMU has it as a PCI function behind a root port and an intel-iommu, and a
second device (ivshmem-plain) that maps its VRAM. The guest is an initramfs made here: busybox, the ingot tool with its
libraries, the kernel's vfio modules, ingot.ko if it is built, and `init`, which runs the rows and prints a line for each:

  ROW name ok|FAIL|skip, what was seen        HOST what the guest wants of us

What the guest asks for (HOST) is done here, through QEMU's monitor or a signal to the chip. The last line counts, and the
exit status is 1 when a row failed, was not reached, or the kernel complained.

  lab.py                    all rows            lab.py --shell       a prompt in the guest
  lab.py --init SCRIPT      any script          lab.py --rows "a b"  these rows
"""
import argparse
import array
import atexit
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.dirname(os.path.dirname(here))
# What a kernel prints when it has been mistreated.
complaints = re.compile(r'BUG:|WARNING:|KASAN|possible (circular|recursive)|DMA-API|Blocked re-entrant|hung_task|'
                        r'blocked for more than|RCU stall|rcu: INFO|Oops|Kernel panic|general protection|DMAR:.*fault')
modules = ['virt/lib/irqbypass', 'drivers/vfio/vfio', 'drivers/vfio/vfio_virqfd', 'drivers/vfio/vfio_iommu_type1',
           'drivers/vfio/pci/vfio-pci-core', 'drivers/vfio/pci/vfio-pci']


def skip(why):
    print(f'lab: skipped: {why}')
    sys.exit(0)


def find_kernel():
    """The newest installed kernel with its modules, as (image, modules folder)."""
    found = []
    for name in os.listdir('/boot') if os.path.isdir('/boot') else []:
        version = name.removeprefix('vmlinuz-')
        folder = f'/lib/modules/{version}/kernel'
        if version != name and os.path.exists(f'{folder}/drivers/vfio/pci/vfio-pci.ko') and \
                os.access(f'/boot/{name}', os.R_OK):
            found.append((version, f'/boot/{name}', folder))
    return max(found)[1:] if found else None


class Cpio:
    """An initramfs in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self):
        self.parts, self.names = [], set()

    def add(self, name, mode, data=b'', device=(0, 0)):
        parent = os.path.dirname(name)
        if parent and parent not in self.names:
            self.add(parent, stat.S_IFDIR | 0o755)
        self.names.add(name)
        fields = [len(self.parts), mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(name) + 1, 0]
        head = b'070701' + b''.join(b'%08x' % f for f in fields) + name.encode() + b'\0'
        self.parts.append(head + b'\0' * (-len(head) % 4) + data + b'\0' * (-len(data) % 4))

    def file(self, name, source, mode=0o755):
        with open(source, 'rb') as f:
            self.add(name, stat.S_IFREG | mode, f.read())

    def write(self, path):
        self.add('TRAILER!!!', 0)
        with open(path, 'wb') as f:
            f.write(b''.join(self.parts))


def libraries(program):
    """The shared libraries of a program, as (where it looks for it, where it is)."""
    text = subprocess.run(['ldd', program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout  # static: none
    return [(line.split()[0] if line.split()[0].startswith('/') else path, path)
            for line in text.splitlines() for path in re.findall(r'(/\S+)', line)[:1]]


def initramfs(path, options, kernel_modules, environment):
    c = Cpio()
    for folder in ('proc', 'sys', 'dev', 'tmp', 'root', 'etc', 'lib/modules'):
        c.add(folder, stat.S_IFDIR | 0o755)
    c.add('dev/console', stat.S_IFCHR | 0o600, device=(5, 1))
    c.file('bin/busybox', '/bin/busybox')
    c.add('bin/sh', stat.S_IFLNK | 0o777, b'busybox')
    programs = [options.ingot] + [p for p in options.programs if os.path.exists(p)]
    for program in programs:
        stripped = path + '.stripped'
        subprocess.run(['strip', '-o', stripped, program], check=True)
        c.file('bin/' + ('ingot' if program == options.ingot else os.path.basename(program)), stripped)
        os.unlink(stripped)
        for wanted, source in libraries(program):
            if wanted.lstrip('/') not in c.names:
                c.file(wanted.lstrip('/'), source)
    for m in modules:
        if os.path.exists(f'{kernel_modules}/{m}.ko'):
            c.file(f'lib/modules/{os.path.basename(m)}.ko', f'{kernel_modules}/{m}.ko', 0o644)
    if os.path.exists(options.module):
        c.file('lib/modules/ingot.ko', options.module, 0o644)
    c.file('init', f'{here}/init')
    c.file('rows', options.init or f'{here}/rows')
    if options.cache:
        c.file('root/kernels.db', options.cache, 0o644)
    c.add('etc/lab', stat.S_IFREG | 0o644, ''.join(f'{k}="{v}"\n' for k, v in environment.items()).encode())
    c.write(path)


class Monitor:
    """QEMU's monitor, in JSON."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile('r')
        self.lines.readline()
        self.ask('qmp_capabilities')

    def ask(self, command, file=None, **arguments):
        text = json.dumps({'execute': command, 'arguments': arguments}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [file]))] if file is not None else []
        self.socket.sendmsg([text], rights)
        while True:
            answer = json.loads(self.lines.readline())
            if 'error' in answer:
                print(f'lab: {command}: {answer["error"]["desc"]}', flush=True)
            if 'event' not in answer:
                return answer


class Lab:
    def __init__(self, options):
        self.options, self.folder = options, tempfile.mkdtemp(prefix='ingot-lab-')
        self.children = []
        self.lock, self.chip_lines = threading.Lock(), []
        atexit.register(self.end)

    def end(self):
        for child in self.children:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(5)
                except subprocess.TimeoutExpired:
                    child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def chip(self):
        """Starts the chip; its socket is connected for QEMU, which can only inherit one."""
        o = self.options
        self.vram = f'{self.folder}/vram'
        with open(self.vram, 'wb') as f:
            f.truncate(o.vram << 20)
        environment = dict(os.environ, MODEL_STRICT='0', MODEL_CHECK='0', CACHE='2')
        self.server = subprocess.Popen(
            [o.ingot, 'chip', '--qemu', f'{self.folder}/chip', '--qtest', f'{self.folder}/qtest', '--iommu', '--vram', self.vram,
             '--aperture', '6'], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.children.append(self.server)
        for line in self.server.stdout:
            if line.startswith('waiting'):
                break
        else:
            sys.exit('lab: the chip did not start')
        threading.Thread(target=self.listen, daemon=True).start()
        return self.plug()

    def listen(self):
        for line in self.server.stdout:
            self.chip_lines.append(line.rstrip())
            if self.options.verbose:
                print('  | ' + line.rstrip(), flush=True)

    def plug(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(f'{self.folder}/chip')
        s.set_inheritable(True)
        return s

    def boot(self, kernel, append):
        o, w = self.options, self.folder
        wire = self.chip()
        irqchip = ',kernel-irqchip=split' if o.accel == 'kvm' else ''
        command = [
            'qemu-system-x86_64', '-accel', o.accel, '-cpu', 'host' if o.accel == 'kvm' else 'max', '-smp', '1', '-m', o.memory,
            '-nodefaults', '-display', 'none', '-no-reboot', '-serial', 'stdio',
            '-object', f'memory-backend-memfd,id=m,size={o.memory}', '-machine', f'q35,memory-backend=m{irqchip}',
            '-device', 'intel-iommu,intremap=on,aw-bits=48',
            '-device', 'pcie-root-port,id=rp0,chassis=1,slot=1,addr=5,x-speed=5',
            '-device', f'x-pci-proxy-dev,id=gpu0,bus=rp0,fd={wire.fileno()}',
            '-object', f'memory-backend-file,id=vram,size={o.vram}M,share=on,mem-path={self.vram}',
            '-device', 'ivshmem-plain,memdev=vram,addr=6',
            '-qtest', f'unix:{w}/qtest,server=on,wait=off', '-qtest-log', '/dev/null',
            '-qmp', f'unix:{w}/monitor,server=on,wait=off', '-kernel', kernel, '-initrd', f'{w}/initramfs',
            '-append', f'console=ttyS0 panic=-1 quiet intel_iommu=on {append}']
        interactive = o.shell and sys.stdin.isatty()
        self.qemu = subprocess.Popen(command, pass_fds=[wire.fileno()], stdin=None if interactive else subprocess.DEVNULL,
                                     stdout=None if interactive else subprocess.PIPE, stderr=subprocess.STDOUT)
        self.children.append(self.qemu)
        wire.close()

    def do(self, what):
        """What a guest may ask for."""
        if what == 'vanish':       # the chip leaves the bus without a word
            self.server.send_signal(signal.SIGUSR1)
        elif what == 'unplug':     # as a person would: the kernel is asked first
            Monitor(f'{self.folder}/monitor').ask('device_del', id='gpu0')
        elif what == 'plug':
            wire = self.plug()
            m = Monitor(f'{self.folder}/monitor')
            m.ask('getfd', file=wire.fileno(), fdname='wire')
            m.ask('device_add', driver='x-pci-proxy-dev', id='gpu0', bus='rp0', fd='wire')
            wire.close()
        else:
            print(f'lab: the guest asks for {what}')

    def run(self):
        """Follows the guest's console; returns the rows and what the kernel complained of."""
        rows, complained, started = [], [], time.time()
        watch = threading.Timer(self.options.timeout, self.qemu.kill)
        watch.start()
        for raw in self.qemu.stdout:
            line = raw.decode(errors='replace').rstrip()
            if match := re.search(r'ROW (\S+) (ok|FAIL|skip)(.*)', line):
                rows.append(match.groups())
                print(f'{time.time() - started:6.1f} s  {match[1]:24} {match[2]}{match[3]}', flush=True)
            elif match := re.search(r'HOST (\w+)', line):
                threading.Thread(target=self.do, args=(match[1],), daemon=True).start()
            elif self.options.verbose or self.options.shell or self.options.init:
                print(f'{time.time() - started:6.1f} s  {line}', flush=True)
            if complaints.search(line):
                complained.append(line)
        watch.cancel()
        self.qemu.wait()
        self.finished = time.time() - started < self.options.timeout
        return rows, complained


def main():
    p = argparse.ArgumentParser(description='Runs the stack in a virtual machine, against a model of the chip.')
    p.add_argument('--ingot', default=f'{root}/build/ingot')
    p.add_argument('--module', default=f'{root}/kmod/ingot.ko')
    p.add_argument('--programs', nargs='*', default=[], help='more programs for the guest')
    # A /dev/kvm that opens may still not run a guest (nested virtualisation), so it has to be asked for.
    p.add_argument('--accel', default=os.environ.get('ACCEL', 'tcg'), help='tcg or kvm (default %(default)s; also ACCEL=)')
    p.add_argument('--memory', default='1536M')
    p.add_argument('--vram', type=int, default=512, help='MiB')
    p.add_argument('--timeout', type=int, default=290, help='seconds')
    p.add_argument('--append', default='', help='to the kernel command line')
    p.add_argument('--init', default='', help='a shell script that the guest runs instead of the rows')
    p.add_argument('--shell', action='store_true', help='a prompt in the guest')
    p.add_argument('--rows', default='', help='only these rows')
    p.add_argument('-v', '--verbose', action='store_true')
    o = p.parse_args()
    if not shutil.which('qemu-system-x86_64'):
        skip('there is no qemu-system-x86_64 (Debian: qemu-system-x86)')
    if not os.path.exists('/bin/busybox'):
        skip('there is no /bin/busybox (Debian: busybox-static)')
    kernel = find_kernel()
    if not kernel:
        skip('no kernel with vfio modules is readable in /boot (Debian: linux-image-amd64)')
    lab = Lab(o)
    # What the same steps give in this process, which the guest has to equal; its kernels are the guest's cache.
    o.cache = f'{lab.folder}/kernels.db'
    steps = '--data synthetic --channels 4 --steps 3 --batch 16 --json --save'
    expected = subprocess.run(
        [o.ingot, 'train', 'mnist', *steps.split(), '', 'DEV=MODEL+AMD'], stdout=subprocess.PIPE, text=True, check=True,
        env=dict(os.environ, MODEL_STRICT='0', MODEL_CHECK='0', CACHE_DB=o.cache)).stdout
    losses = ' '.join(re.findall(r'"loss": ([0-9.]+)', expected))
    initramfs(f'{lab.folder}/initramfs', o, kernel[1],
              {'ROWS': o.rows, 'SHELL_WANTED': int(o.shell), 'STEPS': steps, 'LOSSES': losses})
    print(f'lab: {os.path.basename(kernel[0])}, {o.accel}', flush=True)
    lab.boot(kernel[0], o.append)
    if o.shell and sys.stdin.isatty():
        return lab.qemu.wait()
    rows, complained = lab.run()
    lab.end()
    for line in complained:
        print('kernel: ' + line)
    for line in lab.chip_lines[-3:]:
        print(line)
    if o.init or o.shell:
        return 0
    count = {s: sum(r[1] == s for r in rows) for s in ('ok', 'FAIL', 'skip')}
    whole = any(r[0] == 'end' for r in rows)
    print(f'lab: {count["ok"] - whole} rows ok, {count["FAIL"]} failed, {count["skip"]} skipped'
          + ('' if whole else ', and the guest did not reach the end') + (f', {len(complained)} complaints' if complained else ''))
    return int(bool(count['FAIL'] or complained or not whole))


if __name__ == '__main__':
    sys.exit(main())
