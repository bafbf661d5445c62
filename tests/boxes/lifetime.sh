# shellcheck shell=bash
# Boot, stop, destroy. Sourced by `box`.

# When a live process started, which tells it from another with the same id; nothing for a zombie.
stat_start() { sed -E 's/^.*\) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'; }

supervisor_pid() { # NAME -> its supervisor's id, if that lives
  local file pid start
  file=$(box_dir "$1")/pid
  [[ -f $file ]] || return 1
  read -r pid start <"$file"
  [[ $start && $(stat_start "$pid") == "$start" ]] && printf '%s' "$pid"
}

nspawn_pid() { local sup; sup=$(supervisor_pid "$1") || return 1; pgrep -P "$sup" -x systemd-nspawn | head -1 | grep .; }
leader_pid() { local np; np=$(nspawn_pid "$1") || return 1; pgrep -P "$np" | head -1 | grep .; }

cgroup_root() { # where cgroup v2 is mounted
  local mnt
  mnt=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
  [[ $mnt ]] || die "no cgroup2 hierarchy is mounted"
  printf '%s' "$mnt"
}

# Detached, in a mount namespace and a cgroup of its own, for as long as the box lives: nspawn ends with 133 when the box
# reboots, and is run again.
supervise() { # NAME CGROUP2_MOUNT
  local name=$1 mnt=$2 dir args=() rc
  dir=$(box_dir "$name")
  # nspawn's own state: private, gone with the mount namespace.
  mkdir -p /run/systemd/nspawn
  mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn
  # systemd inside sees one plain cgroup v2 tree, whatever the host mounts.
  [[ $mnt == /sys/fs/cgroup ]] || mount --bind "$mnt" /sys/fs/cgroup
  mkdir -p "/sys/fs/cgroup/$BRIDGE.$name"
  echo $$ >"/sys/fs/cgroup/$BRIDGE.$name/cgroup.procs"
  [[ ! -f $dir/nspawn.args ]] || mapfile -t args <"$dir/nspawn.args"
  while :; do
    rc=0
    # With CAP_BPF and bpf(2) systemd inside enforces DeviceAllow= and IPAddressDeny=.
    systemd-nspawn --quiet --directory="$dir/root" --machine="$name" --boot \
      --network-bridge="$BRIDGE" --resolv-conf=off --timezone=off --link-journal=no \
      --register=no --keep-unit --console=passive \
      --capability=CAP_BPF --system-call-filter=bpf \
      "${args[@]}" </dev/null || rc=$?
    ((rc == 133)) || exit "$rc"
  done
}

reap() { # NAME: end every process of the box, remove its cgroup and its interface
  local cg
  cg=$(cgroup_root)/$BRIDGE.$1
  if [[ -d $cg ]]; then
    [[ ! -w $cg/cgroup.kill ]] || echo 1 >"$cg/cgroup.kill" 2>/dev/null || true
    for _ in {1..100}; do
      find "$cg" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [[ -d $cg ]] || break
      sleep 0.1
    done
  fi
  # The interface is named by the box, which another bridge's run may have, too: only from this bridge.
  if ip link show master "$BRIDGE" 2>/dev/null | grep -q " vb-$1@"; then ip link del "vb-$1" 2>/dev/null || true; fi
}

cmd_start() {
  local name=${1:-} dir mnt pid deadline state=
  known "$name"
  dir=$(box_dir "$name")
  if supervisor_pid "$name" >/dev/null; then note "'$name' is already running"; return; fi
  reap "$name" # what a killed run left behind
  locked; network_up; unlocked
  mnt=$(cgroup_root)
  setsid unshare --mount --propagation private "$0" _supervise "$name" "$mnt" >>"$dir/console.log" 2>&1 </dev/null 9>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(stat_start "$pid")" >"$dir/pid"
  disown "$pid"
  deadline=$((SECONDS + BOOT_TIMEOUT))
  while ((SECONDS < deadline)); do
    supervisor_pid "$name" >/dev/null || { tail -5 "$dir/console.log" >&2; die "'$name' did not boot (log: $dir/console.log)"; }
    if state=$(cmd_exec "$name" systemctl is-system-running 2>/dev/null) || [[ $state == degraded ]]; then
      (exec 3<>"/dev/tcp/$(cat "$dir/ip")/22") 2>/dev/null && { [[ $state == running ]] || note "'$name' is $state"; return 0; }
    fi
    sleep 0.1
  done
  tail -5 "$dir/console.log" >&2
  die "'$name' is not up after $BOOT_TIMEOUT s (state: ${state:-none}; log: $dir/console.log)"
}

cmd_up() {
  local name=${1:-}; valid_name "$name"
  [[ -f $(box_dir "$name")/ready ]] || (cmd_create "$@")
  cmd_start "$name"
}

cmd_stop() {
  local name=${1:-} np sup deadline
  known "$name"
  if np=$(nspawn_pid "$name"); then
    kill -TERM "$np" 2>/dev/null || true # nspawn asks the box's systemd to shut down
    deadline=$((SECONDS + 60))
    while ((SECONDS < deadline)) && supervisor_pid "$name" >/dev/null; do sleep 0.1; done
  fi
  if sup=$(supervisor_pid "$name"); then
    note "'$name' did not shut down in 60 s: it is killed"
    kill -KILL "$sup" 2>/dev/null || true
  fi
  reap "$name"
  rm -f "$(box_dir "$name")/pid"
}

cmd_destroy() {
  local name
  for name in "$@"; do
    valid_name "$name"
    [[ -d $(box_dir "$name") ]] || continue
    if [[ -f $(box_dir "$name")/pid ]]; then # nothing of it is worth a clean shutdown
      local sup
      if sup=$(supervisor_pid "$name"); then kill -KILL "$sup" 2>/dev/null || true; fi
      reap "$name"
    fi
    nft delete element ip "$TABLE" cut "{ $(cat "$(box_dir "$name")/ip") }" 2>/dev/null || true
    rm -rf --one-file-system "$(box_dir "$name")"
  done
}

cmd_purge() {
  local name
  for name in $(names); do cmd_destroy "$name"; done
  rm -rf --one-file-system "$BOXES"
  locked; network_down; unlocked
  [[ ${1:-} != --cache ]] || rm -rf --one-file-system "$CACHE"
}
