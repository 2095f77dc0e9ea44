#!/usr/bin/env bash
# The two commands of the README, in a clone of this commit, as an ordinary user whose PATH holds Node, npm, git and
# coreutils, and nothing else: no Redis, sshd or Chromium. Needs root, to create that user.
set -euo pipefail
cd "$(dirname "$0")/.."

user=lessor-readme
home=/home/$user
programs=$home/programs

remove() { if id "$user" >/dev/null 2>&1; then userdel --force --remove "$user" 2>/dev/null; fi; }
remove
trap remove EXIT
useradd --create-home --shell /bin/sh "$user"

mkdir "$programs"
dpkg -L coreutils | grep -E '^(/usr)?/bin/' | xargs ln -s -t "$programs"
for program in sh node npm npx git; do ln -s "$(readlink -f "$(command -v "$program")")" "$programs/$program"; done

git clone --quiet "file://$PWD" "$home/lessor"
# What the npm of root has downloaded.
cache=$(npm config get cache)
if [ -d "$cache/_cacache" ]; then mkdir "$home/.npm" && cp -r "$cache/_cacache" "$home/.npm/"; fi
chown -R "$user:" "$home"

as_user() {
  (cd "$home/lessor" && setpriv --reuid "$user" --regid "$user" --init-groups \
    env -i HOME="$home" USER="$user" PATH="$programs" sh -c "$1")
}

grep '^npm ci && ' README.md | while read -r command; do
  printf '\n==> %s\n' "$command"
  as_user "$command" </dev/null
done
