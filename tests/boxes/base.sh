# shellcheck shell=bash
# The base system: made once a suite, kept as a tarball. Sourced by `box`.

# What a provider's minimal image has. Not more: a role must install the rest.
PACKAGES=systemd,systemd-sysv,dbus,libpam-systemd,libnss-systemd,udev,kmod,openssh-server,sudo,python3,ca-certificates,iproute2,iputils-ping,procps,less,gpgv
RECIPE=1 # raise when the way the base is made changes

# A box uses the registries that the host uses, as the host's own settings say: apt's addresses and the options that go
# with them, extra certificate authorities, DNS.
apt_uri() { # REGEX on the release's name -> the host's first repository that matches
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(CREATED_BY)' 2>/dev/null |
    awk -v re="$1" '$3 == "Packages" && $2 ~ re { sub(/\/$/, "", $1); print $1; exit }'
}

find_mirror() { # sets MIRROR and SECURITY
  MIRROR=${BOXES_MIRROR:-$(apt_uri '^[a-z]+$')}
  SECURITY=${BOXES_SECURITY-$(apt_uri '-security$')}
  [[ $MIRROR ]] || die "no Debian mirror in the host's sources of packages; set BOXES_MIRROR"
}

write_sources() { # ROOT SUITE
  local root=$1 suite=$2
  rm -f "$root/etc/apt/sources.list"
  {
    printf 'Types: deb\nURIs: %s\nSuites: %s %s-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$MIRROR" "$suite" "$suite"
    [[ -z $SECURITY ]] || printf '\nTypes: deb\nURIs: %s\nSuites: %s-security\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$SECURITY" "$suite"
  } >"$root/etc/apt/sources.list.d/debian.sources"
  apt-config dump 2>/dev/null |
    grep -E '^Acquire::(Check-Valid-Until|Check-Date|https?::(Proxy|Verify-Peer|CAInfo)[^ ]*) ' >"$root/etc/apt/apt.conf.d/90box" || true
}

write_trust() { # ROOT: the host's extra authorities, so that https registries verify
  local root=$1 cert found=
  for cert in /usr/local/share/ca-certificates/*.crt; do
    [[ -f $cert ]] || continue
    cp -L "$cert" "$root/usr/local/share/ca-certificates/"
    found=1
  done
  [[ $found ]] || return 0
  chroot "$root" update-ca-certificates >/dev/null 2>&1
  # Clients with a list of their own are pointed at the system's.
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
  mkdir -p "$root/etc/uv"
  printf 'system-certs = true\n' >"$root/etc/uv/uv.toml"
}

tarball() { # SUITE -> its path
  local sum
  sum=$(printf '%s\n' "$RECIPE" "$1" "$PACKAGES" "$LOGIN" "$MIRROR" "$SECURITY" | sha256sum)
  printf '%s/base-%s-%s.tar.zst' "$CACHE" "$1" "${sum:0:12}"
}

make_base() ( # SUITE; under the lock; leaves the tarball whole or not at all
  suite=$1 out=$(tarball "$1")
  [[ ! -f $out ]] || exit 0
  mkdir -p "$CACHE"
  work=$(mktemp -d "$CACHE/build.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  root=$work/root log=$CACHE/bootstrap-$suite.log
  note "making the base system of $suite (log: $log)"
  mmdebstrap --variant=minbase --include="$PACKAGES" "$suite" "$root" "$MIRROR" >"$log" 2>&1 ||
    { tail -5 "$log" >&2; die "mmdebstrap $suite failed"; }

  write_sources "$root" "$suite"
  write_trust "$root"
  chroot "$root" useradd --create-home --shell /bin/bash --groups sudo "$LOGIN"
  printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$LOGIN" >"$root/etc/sudoers.d/90-$LOGIN"
  chmod 0440 "$root/etc/sudoers.d/90-$LOGIN"
  printf 'PasswordAuthentication no\nPermitRootLogin no\nUseDNS no\n' >"$root/etc/ssh/sshd_config.d/10-box.conf"
  systemctl --root="$root" enable systemd-networkd.service >/dev/null 2>&1
  # No apt that holds the lock in the middle of a playbook, no login on the console.
  systemctl --root="$root" mask apt-daily.timer apt-daily-upgrade.timer console-getty.service systemd-networkd-wait-online.service >/dev/null 2>&1
  # Nothing of one machine alone goes into the tarball.
  rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
  : >"$root/etc/machine-id"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/cache/apt/*.bin "$root"/var/lib/apt/lists/* "$root"/var/log/*.log "$root"/var/log/apt
  tar -C "$root" --numeric-owner --xattrs --xattrs-include='*' --one-file-system -cf - . | zstd -q -T0 -3 -o "$work/base.tar.zst"
  mv "$work/base.tar.zst" "$out"
)

cmd_create() {
  local name=${1:-}; valid_name "$name"; shift
  local dir suite=$SUITE args=() addr root
  dir=$(box_dir "$name")
  while (($#)); do
    case $1 in
      -s) suite=$2; shift 2 ;;
      -b) args+=("--bind=$2"); shift 2 ;;
      -r) args+=("--bind-ro=$2"); shift 2 ;;
      -a) args+=("$2"); shift 2 ;;
      *) die "create: unknown option $1" ;;
    esac
  done
  find_mirror
  locked
  [[ ! -f $dir/ready ]] || die "box '$name' exists"
  make_base "$suite"
  rm -rf --one-file-system "$dir" # a half-made one
  mkdir -p "$dir/root"
  chmod 0755 "$dir" "$dir/root"
  addr=$(free_address)
  printf '%s\n' "$addr" >"$dir/ip"
  printf '%s\n' "$suite" >"$dir/suite"
  ((${#args[@]} == 0)) || printf '%s\n' "${args[@]}" >"$dir/nspawn.args"
  [[ -f $KEY ]] || ssh-keygen -q -t ed25519 -N '' -C loosh-boxes -f "$KEY"
  unlocked

  root=$dir/root
  zstd -qdc "$(tarball "$suite")" | tar -C "$root" --numeric-owner --xattrs --xattrs-include='*' -xpf -
  personalise "$name" "$addr" "$root" "$dir"
  : >"$dir/ready"
}

personalise() { # NAME ADDRESS ROOT DIR: names, network, keys
  local name=$1 addr=$2 root=$3 dir=$4 home
  printf '%s\n' "$name" >"$root/etc/hostname"
  printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n' "$name" >"$root/etc/hosts"
  rm -f "$root/etc/resolv.conf"
  cat /etc/resolv.conf >"$root/etc/resolv.conf"
  cat >"$root/etc/systemd/network/10-host0.network" <<UNIT
[Match]
Name=host0
[Network]
Address=$addr/24
Gateway=$NET.1
LinkLocalAddressing=no
IPv6AcceptRA=no
UNIT
  ssh-keygen -q -t ed25519 -N '' -C "root@$name" -f "$root/etc/ssh/ssh_host_ed25519_key"
  printf '%s %s\n' "$addr" "$(cut -d' ' -f1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" >"$dir/known_hosts"
  home=$root/home/$LOGIN
  install -d -m 0700 "$home/.ssh"
  install -m 0600 "$KEY.pub" "$home/.ssh/authorized_keys"
  chown -R --reference="$home" "$home/.ssh"
}
