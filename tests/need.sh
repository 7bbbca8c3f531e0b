#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Sourced: need_packages PACKAGE... installs those that are missing on Debian, or prints the one line that does and fails.

need_packages()
{
	if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
		echo "This is no Debian; what is needed is called there: $*" >&2
		return 0
	fi
	missing=
	for package in "$@"; do
		case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
		installed) ;;
		*) missing="$missing $package" ;;
		esac
	done
	[ -n "$missing" ] || return 0

	if [ "$(id -u)" = 0 ]; then
		become=
	elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
		become="sudo -n"
	else
		echo "Some packages are missing. As an administrator, run this line, then this script again:" >&2
		echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
		return 1
	fi
	echo "Installing:$missing"
	# shellcheck disable=SC2086
	$become apt-get update -q || return 1
	# shellcheck disable=SC2086
	$become env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}
