# SPDX-License-Identifier: MIT
# The build, in plain GNU Make. A target whose line ends in `## text` is listed by `make help`.
#
# .config (Kconfig, see `make menuconfig`) says what is built; without one the defaults are used. Variables that a command line
# may give: B= build folder, KCONFIG_CONFIG= configuration file, CXX=, EXTRA= more compiler flags, SANITIZE=, OPTIMIZE=, PREFIX=,
# DESTDIR=. Every object has a generated dependency file, so touching one .cc compiles one object.

# `make lab SHELL=1` asks for a prompt, not for another shell.
ifeq ($(SHELL),1)
override SHELL := /bin/sh
PROMPT := --shell
endif

VERSION  := 0.1.0
DEFCONFIG := tools/install/defconfig
B        ?= build
PREFIX   ?= /usr/local
J        ?= $(shell nproc)
PYTHON   ?= $(firstword $(wildcard /usr/bin/python3) python3)
ifeq ($(origin CXX),default)
CXX      := g++
endif
export KCONFIG_CONFIG ?= .config
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

.PHONY: all
all: build  ## (default) libraries, the ingot tool and the tests

# ---- configuration -----------------------------------------------------------------------------------------------------
# Targets that neither compile nor need a configuration must work before anything is installed.
UNCONFIGURED := help lines setup check check-long accept codegen-diff run clean defconfig menuconfig savedefconfig distclean \
                format golden uninstall kmod
GOALS := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out $(UNCONFIGURED),$(GOALS)),)
-include $(KCONFIG_CONFIG)
endif

.PHONY: defconfig menuconfig savedefconfig
defconfig:      ## write .config with the defaults
	@$(PYTHON) -m defconfig --kconfig Kconfig $(DEFCONFIG)
menuconfig:     ## edit .config: devices, instruction sets, tools, sanitizers
	@$(PYTHON) -m menuconfig Kconfig
savedefconfig:  ## write what differs from the defaults to tools/install/defconfig
	@$(PYTHON) -m savedefconfig --kconfig Kconfig --out $B.defconfig
	@{ echo '# SPDX-License-Identifier: MIT'; echo '# What differs from the defaults in Kconfig; `make savedefconfig` writes it.'; \
	   cat $B.defconfig; } > $(DEFCONFIG) && rm $B.defconfig

$(KCONFIG_CONFIG): Kconfig $(DEFCONFIG)
	@mkdir -p $(@D)
	@if [ -s $@ ]; then $(PYTHON) -m olddefconfig Kconfig; else $(PYTHON) -m defconfig --kconfig Kconfig $(DEFCONFIG); fi >/dev/null
	@touch $@

# config.h changes only when its text does, so an untouched symbol costs no rebuild.
$B/config.h: $(KCONFIG_CONFIG) Makefile
	@mkdir -p $(@D)
	@{ echo '#define INGOT_VERSION "$(VERSION)"'; \
	   sed -n 's/^\(CONFIG_\(DEVICE\|ISA\|TOOL\)_[A-Z0-9_]*\)=y$$/#define \1 1/p' $<; } > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# ---- flags -------------------------------------------------------------------------------------------------------------
OPTIMIZE ?= $(or $(CONFIG_OPTIMIZE),2)
SANITIZE ?= $(if $(CONFIG_SANITIZE_ADDRESS),address$(comma)undefined)$(if $(CONFIG_SANITIZE_THREAD),thread)
comma    := ,
# Tests are compiled faster than they would run: what they test is optimised, they are not as much.
LEVEL     = $(if $(IS_TEST),$(if $(filter 0,$(OPTIMIZE)),0,1),$(OPTIMIZE))
CXXFLAGS  = -std=c++20 -O$(LEVEL) -g$(or $(CONFIG_DEBUG_INFO),1) -Wall -Wextra $(if $(CONFIG_WERROR),-Werror) -fPIC -fno-rtti \
            -fvisibility-inlines-hidden -I. -include $B/config.h -MMD -MP \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer) $(EXTRA)
LDFLAGS  += -Wl,-O1,--hash-style=gnu $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LIBS      = -lsqlite3 -lz -lpthread -lpci
CURSES    = $(if $(CONFIG_TOOL_TOP),-lncursesw -ltinfo)
# The tool starts in a millisecond: it takes the libraries in, but for libc, and binds symbols when they are used.
TOOL_LD   = $(if $(SANITIZE),,-static-libstdc++ -static-libgcc -Wl,-z,lazy)
TOOL_LIBS = $(if $(SANITIZE),$(LIBS),-l:libsqlite3.a -l:libz.a -lpthread -lpci) $(CURSES:-l%=-l:lib%.a)

# ---- what is switched off: each symbol owns files by name --------------------------------------------------------------
owned-DEVICE_MODEL := userspace/model/%
owned-DEVICE_AMD := userspace/amd/% tools/inspect/% tests/bench/rdna%
owned-ISA_X86 := compiler/isa/x86% compiler/codegen/%_x86.cc
owned-ISA_RDNA := compiler/isa/rdna% compiler/isa/emu% tests/isa/rdna% tests/bench/rdna% tests/bench/emu%
TOOLS := $(shell sed -n 's/^TOOL.\([a-z_]*\),.*/\1/p' tools/tools.def)
upper  = $(shell echo $1 | tr a-z A-Z)
$(foreach t,$(filter-out help version,$(TOOLS)),$(eval owned-TOOL_$(call upper,$t) := tools/$t.cc tools/$t/%))
OFF   := $(foreach v,$(filter owned-%,$(.VARIABLES)),$(if $(CONFIG_$(v:owned-%=%)),,$($v)))

LIB_SRC  := $(filter-out $(OFF),$(wildcard userspace/*/*.cc compiler/*/*.cc))
TOOL_SRC := $(filter-out $(OFF),tools/ingot.cc tools/options.cc $(wildcard tools/inspect/*.cc) $(foreach t,$(TOOLS),$(wildcard tools/$t.cc tools/$t/*.cc)))
TESTS    := $(filter-out bench lab $(if $(CONFIG_TOOL_TRAIN),,train e2e) $(if $(and $(CONFIG_DEVICE_AMD),$(CONFIG_DEVICE_MODEL),$(CONFIG_ISA_RDNA),$(CONFIG_TOOL_REG),$(CONFIG_TOOL_RING),$(CONFIG_TOOL_VM),$(CONFIG_TOOL_WAVE),$(CONFIG_TOOL_TOP)),,tools) $(if $(CONFIG_DEVICE_AMD),,amd) $(if $(CONFIG_DEVICE_MODEL),,model amd) $(if $(CONFIG_ISA_RDNA),,emu),$(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/*.cc)))))
LIB_OBJ  := $(LIB_SRC:%.cc=$B/%.o)
TOOL_OBJ := $(TOOL_SRC:%.cc=$B/%.o)

# ---- building ----------------------------------------------------------------------------------------------------------
.PHONY: build lib tests
lib: $B/libingot.a $(if $(CONFIG_SHARED),$B/libingot.so)  ## the libraries only
build: lib $B/ingot tests
tests: $(TESTS:%=$B/test_%)  ## the test programs, build/test_<folder>

$B/tests/%.o: IS_TEST := 1
$B/tests/bench/%.o: IS_TEST :=
$B/%.o: %.cc | $B/config.h
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c $< -o $@

$B/libingot.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

SONAME := libingot.so.$(firstword $(subst ., ,$(VERSION)))
$B/libingot.so: $(LIB_OBJ) tools/install/libingot.map
	$(CXX) -shared $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script=tools/install/libingot.map -o $@ $(LIB_OBJ) $(LIBS)

$B/ingot: $(TOOL_OBJ) $B/libingot.a
	$(CXX) $(LDFLAGS) $(TOOL_LD) -o $@ $^ $(TOOL_LIBS)

# Tests may use what the tools are made of, all but main(). Subcommands are weak, so
# the test that calls some names their objects.
$B/libtools.a: $(filter-out $B/tools/ingot.o,$(TOOL_OBJ))
	@rm -f $@
	ar rcs $@ $^

TESTED-tools := reg ring vm wave top
# The arithmetic of the kernel module, as user space compiles it.
$B/kmod/%.o: kmod/%.c kmod/logic.h kmod/ingot_uapi.h
	@mkdir -p $(@D)
	$(CXX) -x c -std=gnu11 -O1 -g -Wall -Wextra -Werror -I. $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all) -c $< -o $@
WITH-kmod := $B/kmod/logic.o

define TEST
$B/test_$1: $$(WITH-$1) $$(TESTED-$1:%=$B/tools/%.o) $$(patsubst %.cc,$B/%.o,$$(filter-out $$(OFF),$$(wildcard tests/$1/*.cc))) $B/libtools.a $B/libingot.a
	$$(CXX) $$(LDFLAGS) -o $$@ $$^ -lgtest -lgmock -lgtest_main $$(LIBS) $$(CURSES)
endef
$(foreach t,$(TESTS),$(eval $(call TEST,$t)))

$B/bench_%: $B/tests/bench/%.o $B/libingot.a
	$(CXX) $(LDFLAGS) $(TOOL_LD) -o $@ $^ $(TOOL_LIBS)

# ---- the kernel module --------------------------------------------------------------------------------------------------
.PHONY: kmod
kmod:           ## ingot.ko for the running kernel, or for KDIR=; INGOT_DEBUG=1 adds fault injection
	@$(MAKE) --no-print-directory -C kmod
# Programs for a guest: static, and with nothing of ours but the interface of the module.
$B/lab/%: tests/kmod/%.c kmod/ingot_uapi.h
	@mkdir -p $(@D)
	$(CXX) -x c -std=gnu11 -O1 -g -Wall -Wextra -Werror -static -I. $< -o $@

$B/lab/bus: $B/tests/lab/bus.o $B/libingot.a
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS) $(TOOL_LD) -o $@ $^ $(TOOL_LIBS)

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(patsubst %.cc,$B/%.d,$(wildcard tests/*/*.cc))

# ---- installing --------------------------------------------------------------------------------------------------------
# Headers keep their names from the tree: <ingot/tensor.h> includes "compiler/tensor/tensor.h", found under include/ingot.
HEADERS := $(wildcard $(addsuffix /*.h,userspace/base userspace/device compiler/uop compiler/isa compiler/text compiler/schedule \
             compiler/codegen compiler/runtime compiler/tensor)) userspace/hw/bus.h \
           $(wildcard userspace/base/*.def compiler/uop/*.def compiler/tensor/*.def compiler/codegen/*.def compiler/runtime/*.def)
TREE     = $(DESTDIR)$(PREFIX)

.PHONY: install uninstall
install: lib $B/ingot  ## to DESTDIR and PREFIX (/usr/local): the ingot tool, libraries, headers, pkg-config file, completion
	install -d $(TREE)/bin $(TREE)/lib/pkgconfig $(TREE)/include/ingot $(TREE)/share/doc/ingot \
	  $(TREE)/share/bash-completion/completions $(TREE)/share/zsh/site-functions $(TREE)/share/fish/vendor_completions.d
	install -m 755 $B/ingot $(TREE)/bin/ingot
	install -m 644 $B/libingot.a $(TREE)/lib
	$(if $(CONFIG_SHARED),install -m 755 $B/libingot.so $(TREE)/lib/libingot.so.$(VERSION))
	$(if $(CONFIG_SHARED),ln -sf libingot.so.$(VERSION) $(TREE)/lib/$(SONAME); ln -sf $(SONAME) $(TREE)/lib/libingot.so)
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' tools/install/ingot.pc.in > $(TREE)/lib/pkgconfig/ingot.pc
	for h in $(HEADERS); do install -D -m 644 $$h $(TREE)/include/ingot/$$h || exit 1; done
	install -m 644 tools/install/tensor.h $(TREE)/include/ingot/tensor.h
	install -m 644 LICENSE README.md $(TREE)/share/doc/ingot
	$(if $(CONFIG_TOOL_COMPLETION),$B/ingot completion bash > $(TREE)/share/bash-completion/completions/ingot; \
	  $B/ingot completion zsh > $(TREE)/share/zsh/site-functions/_ingot; \
	  $B/ingot completion fish > $(TREE)/share/fish/vendor_completions.d/ingot.fish)
uninstall:      ## from DESTDIR and PREFIX
	rm -rf $(TREE)/include/ingot $(TREE)/share/doc/ingot
	rm -f $(TREE)/bin/ingot $(TREE)/lib/libingot.a $(TREE)/lib/libingot.so* $(TREE)/lib/pkgconfig/ingot.pc \
	  $(TREE)/share/bash-completion/completions/ingot $(TREE)/share/zsh/site-functions/_ingot \
	  $(TREE)/share/fish/vendor_completions.d/ingot.fish

# ---- running -----------------------------------------------------------------------------------------------------------
.PHONY: setup run lab
setup:          ## install the packages that are missing (apt; prints the command if you may not)
	@tools/install/setup.sh check
# Context variables on the command line (make run DEV=REF DEBUG=2) reach the tool through the environment.
run:            ## train a convnet on MNIST; STEPS=N, DEV=, DEBUG= and the other variables of `ingot help env` pass through
	@tools/install/setup.sh build
	@$(MAKE) --no-print-directory -j$J -s $B/ingot
	@$B/ingot train mnist $(if $(filter MODEL+%,$(DEV)),--steps $(or $(STEPS),60) --batch 64 MODEL_STRICT=$(or $(MODEL_STRICT),0) MODEL_CHECK=$(or $(MODEL_CHECK),0),$(if $(STEPS),--steps $(STEPS))) $(ARGS)

lab: $B/ingot $B/lab/bus $B/lab/guest  ## the stack in a virtual machine, with a model of the chip as its PCI device; SHELL=1 a prompt, INIT=script, ROWS="a b"
	@tools/install/setup.sh lab || echo 'setup: something is missing, see above' >&2
	@$(MAKE) --no-print-directory -s kmod || echo 'lab: there is no ingot.ko'
	@$(PYTHON) tests/lab/lab.py --ingot $B/ingot --programs $B/lab/bus $B/lab/guest $(PROMPT) $(if $(INIT),--init $(INIT)) $(if $(ROWS),--rows "$(ROWS)") $(ARGS)

# ---- checking ----------------------------------------------------------------------------------------------------------
.PHONY: check check-long accept lines format golden ulp fuzz bench codegen-diff
check:          ## what every change must pass; the last line counts. ONLY="source format tests" runs some steps
	@tools/install/setup.sh check
	@J=$J $(PYTHON) tools/check/check.py $(ONLY)
check-long:     ## every promise at full size: check, the long tests, all acceptance rows
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory ulp fuzz N=100000
	@for t in $(TESTS:%=$B/test_%); do $$t --gtest_also_run_disabled_tests --gtest_filter='*DISABLED_Long*' || exit 1; done
	@$(MAKE) --no-print-directory accept
accept:         ## a table: each promise, what was measured, the verdict
	@tools/install/setup.sh check
	@$(MAKE) --no-print-directory -j$J -s build
	@B=$B $(PYTHON) tools/check/accept.py $(ROWS)
lines:          ## code lines per folder; fails above the walls
	@$(PYTHON) tools/check/source.py lines
format:         ## clang-format everything
	@git ls-files '*.cc' '*.h' | grep -v ^kmod/ | xargs clang-format-14 -i
codegen-diff:   ## compare the bytes of a fixed set of kernels: OLD=commit (default HEAD) with the working tree, or NEW=commit
	@J=$J $(PYTHON) tools/check/codegen_diff.py $(or $(OLD),HEAD) $(NEW)
golden:         ## write the golden files anew (needs llvm-19 for the instruction sets); review the diff like code
	@for s in tests/*/golden.py tests/*/golden.sh tests/*/make_expected.py; do [ ! -x $$s ] || { echo $$s; $$s || exit 1; }; done
ulp: $B/ingot   ## error of the math functions over all float32 inputs
	@[ ! $B/ulp.state -ot $B/ingot ] || rm -f $B/ulp.state
	$B/ingot ulp --all --resume $B/ulp.state
fuzz: $B/test_ops  ## N random graphs (default 2000) from SEED
	$B/test_ops --gtest_filter='Fuzz.*' --graphs=$(or $N,2000) --seed=$(or $(SEED),1)
bench: $B/ingot $(patsubst tests/bench/%.cc,$B/bench_%,$(filter-out $(OFF),$(wildcard tests/bench/*.cc)))  ## measure kernels and replay
	@for b in $(filter $B/bench_%,$^); do echo $$b; $$b || exit 1; done

.PHONY: help
help:           ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F "|" "{ printf \"%-16s%s\\n\", \$$1, \$$2 }"

.PHONY: clean distclean
clean:          ## remove what was built
	rm -rf $B
distclean: clean  ## and the configuration
	rm -f .config .config.old
