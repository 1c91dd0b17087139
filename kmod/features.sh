#!/bin/sh
# SPDX-License-Identifier: GPL-2.0 OR MIT
# features.sh OUT COMPILER FLAGS...: writes HAVE_<NAME> for each row of features.def that compiles.
# A header that cannot be found would look like a feature that is not there, so the first thing
# compiled is one that must work.
set -eu

out=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# compile HEADERS STATEMENT FLAGS...
compile() {
	for h in $1; do echo "#include <$h>"; done >"$dir/t.c"
	printf 'void probe(void);\nvoid more(void);\nvoid probe(void)\n{\n%s\n}\n' "$2" >>"$dir/t.c"
	shift 2
	"$@" -Werror=implicit-function-declaration -Werror=incompatible-pointer-types \
		-c -o "$dir/t.o" "$dir/t.c" >"$dir/log" 2>&1
}

if ! compile "linux/types.h" ";" "$@"; then
	echo "features.sh: this compiler and these flags compile nothing:" >&2
	cat "$dir/log" >&2
	exit 1
fi

{
	echo "/* Written by features.sh: what this kernel has. */"
	grep -v '^#' "$here/features.def" | while IFS='|' read -r name headers code; do
		name=$(echo "$name" | tr -d ' ')
		if compile "$headers" "$code" "$@"; then
			echo "#define HAVE_$name 1"
		else
			echo "/* HAVE_$name is not */"
		fi
	done
} >"$dir/out"
cmp -s "$dir/out" "$out" || cp "$dir/out" "$out"
