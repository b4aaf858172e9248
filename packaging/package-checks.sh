# For test-deb and test-boot, which source it: the packages in two versions, a directory to work in,
# and checks that are counted. Whoever sources it says with `inside` how a command runs in the Debian.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/tallyd-packages.XXXXXX")
debian=$work/debian
passed=0

apt() {
  inside apt-get -y -qq -o Dpkg::Use-Pty=0 "$@" </dev/null >"$work/apt.log" 2>&1 && return
  tail -40 "$work/apt.log" >&2
  exit 1
}

not() { ! "$@"; }

say_more() { :; }  # when a check has failed

check() {  # check WHAT COMMAND...
  local what=$1
  shift
  if "$@" >"$work/check.log" 2>&1; then
    passed=$((passed + 1))
    echo "ok      $what"
  else
    echo "FAILED  $what" >&2
    cat "$work/check.log" >&2
    say_more >&2
    exit 1
  fi
}

remove_work() {  # remove_work STATUS
  rm -rf --one-file-system "$work"
  if (($1 != 0)); then echo "FAILED after $passed checks" >&2; fi
}

# Into $work/old and $work/new, which is what `version` says, and "+next".
build_two_versions() {  # build_two_versions [ARGUMENT-OF-BUILD-DEB...]
  "$root/packaging/build-deb" "$@" --out "$work/old"
  version=$(dpkg-deb -f "$(echo "$work"/old/tallyd_*.deb)" Version)
  "$root/packaging/build-deb" "$@" --out "$work/new" --version "$version+next"
}
