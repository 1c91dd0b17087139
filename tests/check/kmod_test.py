# SPDX-License-Identifier: MIT
"""The build of the kernel module: every probe in both outcomes, against small headers of an old and a new kernel, and compat.h
compiled with each; the module itself against the kernel headers that are installed, where not one warning is let through."""
import glob
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KMOD = os.path.join(ROOT, "kmod")

COMMON = {
    "linux/types.h": "#ifndef T\n#define T\ntypedef _Bool bool;\nstruct device { void *bus; };\n#endif\n",
    "linux/irqdomain.h": "#include <linux/types.h>\nbool irq_domain_check_msi_remap(void);\n",
}
# header: (both kernels, only the old one, only the new one)
HEADERS = {
    "linux/eventfd.h": ("struct eventfd_ctx;", "int eventfd_signal(struct eventfd_ctx *ctx, unsigned long long n);",
                        "void eventfd_signal(struct eventfd_ctx *ctx);"),
    "linux/mm.h": ("struct vm_area_struct { unsigned long vm_flags; };", "",
                   "static inline void vm_flags_mod(struct vm_area_struct *v, unsigned long s, unsigned long c)"
                   " { v->vm_flags = (v->vm_flags | s) & ~c; }"),
    "linux/msi.h": ("#include <linux/types.h>", "", "bool msi_device_has_isolated_msi(struct device *dev);"),
    "linux/iommu.h": ("#include <linux/types.h>\nenum iommu_cap { IOMMU_CAP_INTR_REMAP };\n"
                      "bool iommu_capable(void *bus, enum iommu_cap cap);", "",
                      "bool device_iommu_capable(struct device *dev, enum iommu_cap cap);"),
    "linux/module.h": ("", "#define MODULE_IMPORT_NS(ns) extern const char import_ns[sizeof(#ns)]",
                       "#define MODULE_IMPORT_NS(ns) extern const char import_ns[sizeof(ns)]"),
}
# The one probe whose yes is the old form.
OLD_ONLY = {"IMPORT_NS_BARE"}


def probes():
    with open(os.path.join(KMOD, "features.def"), encoding="utf-8") as f:
        return {line.split("|")[0].strip() for line in f if not line.startswith("#")}


class Features(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text + "\n")

    def kernel(self, new, without=()):
        for name, text in COMMON.items():
            if name not in without:
                self.write(name, text)
        for name, (both, old_text, new_text) in HEADERS.items():
            guard = name.upper().replace("/", "_").replace(".", "_")
            self.write(name, f"#ifndef {guard}\n#define {guard}\n{both}\n{new_text if new else old_text}\n#endif")

    def found(self):
        out = os.path.join(self.dir, "features.h")
        run = subprocess.run([os.path.join(KMOD, "features.sh"), out, "cc", "-nostdinc", "-I", self.dir], capture_output=True,
                             text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(out, encoding="utf-8") as f:
            return {line.split()[1].removeprefix("HAVE_") for line in f if line.startswith("#define")}

    def compat(self):
        """compat.h in the outcome that was just found."""
        self.write("t.c", '#include "compat.h"\n#include <linux/module.h>\nINGOT_IMPORT_NS(DMA_BUF);\n'
                          "bool all(struct eventfd_ctx *c, struct vm_area_struct *v, struct device *d);\n"
                          "bool all(struct eventfd_ctx *c, struct vm_area_struct *v, struct device *d)\n"
                          "{ ingot_signal(c); ingot_vm_flags(v, 1, 2); return ingot_has_isolated_msi(d); }")
        run = subprocess.run(["cc", "-nostdinc", "-I", self.dir, "-I", KMOD, "-iquote", self.dir, "-Wall", "-Wextra", "-Werror",
                              "-fsyntax-only", os.path.join(self.dir, "t.c")], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_old_kernel(self):
        self.kernel(new=False)
        shutil.copy(os.path.join(KMOD, "compat.h"), self.dir)
        self.assertEqual(self.found(), OLD_ONLY)
        self.compat()

    def test_new_kernel(self):
        self.kernel(new=True)
        shutil.copy(os.path.join(KMOD, "compat.h"), self.dir)
        self.assertEqual(self.found(), probes() - OLD_ONLY)
        self.compat()

    def test_a_broken_set_of_headers_is_not_an_old_kernel(self):
        self.kernel(new=True, without=("linux/types.h",))
        run = subprocess.run([os.path.join(KMOD, "features.sh"), os.path.join(self.dir, "features.h"), "cc", "-nostdinc", "-I",
                              self.dir], capture_output=True, text=True, check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("compile nothing", run.stderr)


class Module(unittest.TestCase):
    def test_builds_alone_without_a_warning(self):
        headers = [k for k in glob.glob("/lib/modules/*/build") if os.path.isfile(os.path.join(k, "Makefile"))]
        if not headers:
            self.skipTest("no kernel headers are installed")
        sparse = ["C=2", "CF=-D__CHECK_ENDIAN__"] if shutil.which("sparse") else []
        with tempfile.TemporaryDirectory() as folder:
            for f in subprocess.run(["git", "ls-files", "kmod"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split():
                shutil.copy(os.path.join(ROOT, f), folder)
            environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "B", "CXX", "EXTRA")}
            for debug in ([], ["INGOT_DEBUG=1"]):
                run = subprocess.run(["make", "-s", "-C", folder, f"KDIR={headers[-1]}", "W=1", *sparse, *debug, "modules"],
                                     capture_output=True, text=True, env=environment, check=False)
                output = [line for line in (run.stdout + run.stderr).split("\n") if line and "BTF" not in line]
                self.assertEqual((run.returncode, output), (0, []))
                self.assertTrue(os.path.exists(os.path.join(folder, "ingot.ko")))


if __name__ == "__main__":
    unittest.main()
