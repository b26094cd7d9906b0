#!/bin/sh
# The three files that are built show their documented names and nothing else, and the extension
# does not bring an SQLite of its own. Catches: an internal function made visible (it would collide
# with the host's), a direct call of libsqlite3 from the extension (two SQLites in one process),
# a name that the dynamic linker looks up inside the SIGBUS handler, on its small stack.
# usage: exports.sh DAXLITE.SO LIBDAXLITE.SO LIBDAXLITE.A
set -u
failed=0

expect() { # what, expected, found
    if [ "$2" != "$3" ]; then
        printf '%s: expected\n%s\nfound\n%s\n' "$1" "$2" "$3"
        failed=1
    fi
}

# Names that tools add by themselves (sanitizers, linkers) begin with an underscore.
dynamic() {
    nm -D --defined-only "$1" | awk '{print $3}' | grep -v '^_' | sort
}

expect "$1 exports" "sqlite3_daxlite_init
sqlite3_daxlitedefault_init" "$(dynamic "$1")"
expect "$2 exports" "daxlite_initialize
daxlite_media_callback
daxlite_memory_status
daxlite_page_cache_limit
daxlite_page_cache_shrink
daxlite_register
daxlite_shutdown
daxlite_version" "$(dynamic "$2")"
expect "$3 defines" "daxlite_initialize
daxlite_media_callback
daxlite_memory_status
daxlite_page_cache_limit
daxlite_page_cache_shrink
daxlite_register
daxlite_shutdown
daxlite_version" "$(nm -g --defined-only "$3" | awk 'NF == 3 {print $3}' | grep -v '^_' | sort)"
expect "$1 needs of SQLite" "" "$(nm -D --undefined-only "$1" | awk '{print $2}' | grep '^sqlite3')"
for library in "$1" "$2"; do
    expect "$library binds its names" "at load" \
        "$(readelf -d "$library" | grep -q 'FLAGS_1.*NOW' && echo "at load" || echo "when called")"
done
expect "$1 links" "" "$(readelf -d "$1" | grep NEEDED | grep -E 'sqlite3|jemalloc')"
exit $failed
