# shellcheck shell=bash
# The bridge that the boxes hang on, and their way out. Sourced by `box`.

TABLE=boxes_$BRIDGE

network_up() {
  ip link show "$BRIDGE" >/dev/null 2>&1 || ip link add "$BRIDGE" type bridge
  ip addr replace "$NET.1/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  nft list table ip "$TABLE" >/dev/null 2>&1 && return
  [[ $(cat /proc/sys/net/ipv4/ip_forward) == 1 ]] || { echo 0 >"$HOME_DIR/ip_forward.was"; echo 1 >/proc/sys/net/ipv4/ip_forward; }
  nft -f - <<RULES
table ip $TABLE {
  set cut { type ipv4_addr; }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "$BRIDGE" oifname != "$BRIDGE" ip saddr @cut reject
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr $NET.0/24 oifname != "$BRIDGE" masquerade
  }
}
RULES
}

network_down() {
  nft delete table ip "$TABLE" 2>/dev/null || true
  ip link del "$BRIDGE" 2>/dev/null || true
  # Another bridge's boxes may still need the way out.
  if [[ -f $HOME_DIR/ip_forward.was ]] && ! nft list tables | grep -q '^table ip boxes_'; then
    cat "$HOME_DIR/ip_forward.was" >/proc/sys/net/ipv4/ip_forward
    rm -f "$HOME_DIR/ip_forward.was"
  fi
}

free_address() {
  local used host
  used=$(cat "$BOXES"/*/ip 2>/dev/null || true)
  for host in {10..250}; do
    grep -qxF "$NET.$host" <<<"$used" || { printf '%s.%s' "$NET" "$host"; return; }
  done
  die "no free address in $NET.0/24"
}

cmd_egress() {
  known "$1"
  local addr
  addr=$(cat "$(box_dir "$1")/ip")
  case ${2:-} in
    off) nft add element ip "$TABLE" cut "{ $addr }" ;;
    on) nft delete element ip "$TABLE" cut "{ $addr }" 2>/dev/null || true ;;
    *) die "egress NAME on|off" ;;
  esac
}
