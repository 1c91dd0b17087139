# SPDX-License-Identifier: MIT
# The build, in plain GNU Make. A target whose line ends in `## text` is listed by `make help`.
#
# .config (Kconfig, see `make menuconfig`) says what is built; without one the defaults are used. Variables that a command line
# may give: B= build folder, KCONFIG_CONFIG= configuration file, CXX=, EXTRA= more compiler flags, SANITIZE=, OPTIMIZE=, PREFIX=,
# DESTDIR=. Every object has a generated dependency file, so touching one .cc compiles one object.

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
                format golden include-edges uninstall
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
	@{ sed -n "/^#/p" $(DEFCONFIG); cat $B.defconfig; } > $B.new && mv $B.new $(DEFCONFIG) && rm $B.defconfig

$(KCONFIG_CONFIG): Kconfig $(DEFCONFIG)
	@mkdir -p $(@D)
	@if [ -e $@ ]; then $(PYTHON) -m olddefconfig Kconfig; else $(PYTHON) -m defconfig --kconfig Kconfig $(DEFCONFIG); fi >/dev/null
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
CXXFLAGS  = -std=c++20 -O$(OPTIMIZE) -g$(or $(CONFIG_DEBUG_INFO),1) -Wall -Wextra $(if $(CONFIG_WERROR),-Werror) -fPIC -fno-rtti \
            -fvisibility-inlines-hidden -I. -include $B/config.h -MMD -MP \
            $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer) $(EXTRA)
LDFLAGS  += -Wl,-O1,--hash-style=gnu $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LIBS      = -lsqlite3 -lz -lpthread
# The tool starts in a millisecond: it takes libstdc++ and the library in, and binds symbols when they are used.
TOOL_LD   = $(if $(SANITIZE),,-static-libstdc++ -static-libgcc -Wl,-z,lazy)

# ---- what is switched off: each symbol owns files by name --------------------------------------------------------------
owned-DEVICE_CPU := userspace/cpu/%
owned-ISA_X86    := compiler/isa/x86%
TOOLS := $(shell sed -n 's/^TOOL.\([a-z_]*\),.*/\1/p' tools/tools.def)
upper  = $(shell echo $1 | tr a-z A-Z)
$(foreach t,$(filter-out help version,$(TOOLS)),$(eval owned-TOOL_$(call upper,$t) := tools/$t.cc tools/$t/%))
OFF   := $(foreach v,$(filter owned-%,$(.VARIABLES)),$(if $(CONFIG_$(v:owned-%=%)),,$($v)))

LIB_SRC  := $(filter-out $(OFF),$(wildcard userspace/*/*.cc compiler/*/*.cc))
TOOL_SRC := $(filter-out $(OFF),tools/ingot.cc tools/options.cc $(foreach t,$(TOOLS),$(wildcard tools/$t.cc tools/$t/*.cc)))
TESTS    := $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/*.cc))))
LIB_OBJ  := $(LIB_SRC:%.cc=$B/%.o)
TOOL_OBJ := $(TOOL_SRC:%.cc=$B/%.o)

# ---- building ----------------------------------------------------------------------------------------------------------
.PHONY: build lib tests
lib: $B/libingot.a $(if $(CONFIG_SHARED),$B/libingot.so) $B/ingot.pc  ## the libraries only
build: lib $B/ingot tests
tests: $(TESTS:%=$B/test_%)  ## the test programs, build/test_<folder>

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
	$(CXX) $(LDFLAGS) $(TOOL_LD) -o $@ $^ $(LIBS)

define TEST
$B/test_$1: $$(patsubst %.cc,$B/%.o,$$(wildcard tests/$1/*.cc tools/$1/*.cc)) $B/libingot.a
	$$(CXX) $$(LDFLAGS) -o $$@ $$^ -lgtest -lgmock -lgtest_main $$(LIBS)
endef
$(foreach t,$(TESTS),$(eval $(call TEST,$t)))

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d) $(patsubst %.cc,$B/%.d,$(wildcard tests/*/*.cc))

.PHONY: help
help:           ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|'

.PHONY: clean distclean
clean:          ## remove what was built
	rm -rf $B
distclean: clean  ## and the configuration
	rm -f .config .config.old
