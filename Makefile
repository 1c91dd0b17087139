# SPDX-License-Identifier: MIT
# Bootstrap build; to be replaced.
CXX ?= g++
B ?= build
CXXFLAGS = -std=c++20 -O2 -g1 -Wall -Wextra -Werror -fno-rtti -I. -MMD -MP $(EXTRA)
SRC := $(wildcard userspace/*/*.cc compiler/*/*.cc)
OBJ := $(SRC:%.cc=$B/%.o)
TESTDIRS := $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/*.cc))))
all: $B/libingot.a $(TESTDIRS:%=$B/test_%)
$B/libingot.a: $(OBJ)
	@rm -f $@; ar rcs $@ $^
$B/%.o: %.cc
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) -c $< -o $@
define TEST
$B/test_$1: $$(patsubst %.cc,$B/%.o,$$(wildcard tests/$1/*.cc tools/$1/*.cc)) $B/libingot.a
	$(CXX) -o $$@ $$(filter %.o,$$^) $B/libingot.a -lgtest -lgmock -lgtest_main -lsqlite3 -lz -lpthread
endef
$(foreach t,$(TESTDIRS),$(eval $(call TEST,$t)))
-include $(shell find $B -name '*.d' 2>/dev/null)
