# Everything a person or CI does here; `./justw` alone lists it.

set positional-arguments

[private]
default:
    @just --list --unsorted

# Set everything up and start the miner
[group('run')]
[no-exit-message]
run *ARGS: _env
    @exec .venv/bin/loosh-miner serve "$@"

# Ask a running miner as a validator would: challenge "What is a Bittensor subnet?"
[group('run')]
[no-exit-message]
challenge *ARGS: _env
    @exec .venv/bin/loosh-miner challenge "$@"

# Post the miner's address on chain, and see that it is there: register --address 203.0.113.7 (a box: --limit gpu1)
[group('run')]
[no-exit-message]
register *ARGS: _env
    @case " $* " in *" --limit"[\ =]*) exec just register-box "$@" ;; *) exec .venv/bin/loosh-miner register "$@" ;; esac

# Show what `register` would post, and post nothing
[group('run')]
[no-exit-message]
register-dry-run *ARGS: _env
    @exec .venv/bin/loosh-miner register --dry-run "$@"

# Show how the running miner does; exit code 0 ready, 3 not ready, 1 none runs
[group('run')]
[no-exit-message]
status *ARGS: _env
    @exec .venv/bin/loosh-miner status "$@"

# List the validators that may call
[group('run')]
[no-exit-message]
validators *ARGS: _env
    @exec .venv/bin/loosh-miner validators "$@"

# Look at everything the miner needs to earn; each fault comes with its remedy
[group('run')]
[no-exit-message]
doctor *ARGS: _env
    @exec .venv/bin/loosh-miner doctor "$@"

# Say which models fit this machine; `just models explain ID`, `just models pull`
[group('run')]
[no-exit-message]
models *ARGS: _env
    @exec .venv/bin/loosh-miner models "$@"

# Write what the engine for this machine is started with: engine --format systemd
[group('run')]
[no-exit-message]
engine *ARGS: _env
    @exec .venv/bin/loosh-miner engine render "$@"

# Run the tests; arguments go to pytest
[group('develop')]
[no-exit-message]
test *ARGS: _env-dev
    @exec .venv/bin/python -m pytest "$@"

# Test with a real vLLM on the CPU, which is made once (python3.11, some gigabytes); arguments go to pytest
[group('develop')]
[no-exit-message]
test-vllm *ARGS: _env-dev
    @exec .venv/bin/python -m tests.vllm "$@"

# Check format, lint, types, and known vulnerabilities of what the locks name
[group('develop')]
[no-exit-message]
check: _env-dev
    .venv/bin/ruff format --check .
    .venv/bin/ruff check .
    .venv/bin/pyright
    .venv/bin/python toolchain/audit.py

# Format the code, fix what can be fixed safely
[group('develop')]
fmt: _env-dev
    .venv/bin/ruff check --quiet --fix-only .
    .venv/bin/ruff format .

# Measure a miner: CPU per challenge, latencies, memory
[group('develop')]
[no-exit-message]
bench *ARGS: _env-dev
    @exec .venv/bin/python -m tests.bench "$@"

# Measure the configured engine beside llama.cpp's own server and one locked Llama: tokens/s, latencies
[group('develop')]
[no-exit-message]
bench-engine *ARGS: _env-dev
    @exec .venv/bin/python -m tests.bench.engine "$@"

# Load, faults, restarts, clock steps and a full disk for half an hour or more: soak --hours 1
[group('develop')]
[no-exit-message]
soak *ARGS: _env-dev
    @exec .venv/bin/python -m tests.soak "$@"

# Test what can be tested of the Nix files without nixpkgs (Debian: nix-bin); arguments go to pytest
[group('develop')]
[no-exit-message]
test-nix *ARGS: _env-dev
    @exec .venv/bin/python -m pytest tests/nix "$@"

# Build llama.cpp's own server once (minutes), for the tests and the benchmark that use it
[group('develop')]
[no-exit-message]
build-llama-server: _env-dev
    @exec .venv/bin/python -m tests.peers.llama_build

# Make all locks anew; `just lock --upgrade` moves to the latest versions
[group('maintain')]
lock *ARGS:
    @python3 toolchain/make_locks.py "$@"

# Write anew what Nix takes from here: profiles, settings' names, the wheels' hash, the page of options (Debian: nix-bin)
[group('maintain')]
nix-write: _env-dev
    .venv/bin/python -m app.appliance.nix_files
    .venv/bin/python -m tests.nix.wheelhouse
    .venv/bin/python -m tests.nix.options

# Make miners of the machines in ansible/inventory.yml; arguments go to ansible-playbook: --limit gpu1
[group('appliance')]
[no-exit-message]
provision *ARGS: _env-dev
    @ANSIBLE_CONFIG=ansible/ansible.cfg exec .venv/bin/ansible-playbook ansible/site.yml "$@"

# Tell what `provision` would change, and change nothing (but for python3-apt, which Ansible needs to look)
[group('appliance')]
[no-exit-message]
provision-check *ARGS: _env-dev
    @ANSIBLE_CONFIG=ansible/ansible.cfg exec .venv/bin/ansible-playbook ansible/site.yml --check --diff "$@"

# Bring a new release to the miner's box: drain, switch, self-challenge, else back to the one before
[group('appliance')]
[no-exit-message]
upgrade *ARGS: _env-dev
    @ANSIBLE_CONFIG=ansible/ansible.cfg exec .venv/bin/ansible-playbook ansible/upgrade.yml "$@"

# Post a box's address on chain once it has answered: register-box --limit gpu1 -e register_dry_run=true
[group('appliance')]
[no-exit-message]
register-box *ARGS: _env-dev
    @ANSIBLE_CONFIG=ansible/ansible.cfg exec .venv/bin/ansible-playbook ansible/register.yml "$@"

# Have the doctor look at the miner's box
[group('appliance')]
[no-exit-message]
doctor-box *ARGS: _env-dev
    @ANSIBLE_CONFIG=ansible/ansible.cfg exec .venv/bin/ansible-playbook ansible/doctor.yml "$@"

# Take the appliance off a box, but for its hotkey and weights: reset --limit gpu1
[group('appliance')]
[no-exit-message]
reset *ARGS: _env-dev
    @ANSIBLE_CONFIG=ansible/ansible.cfg exec .venv/bin/ansible-playbook ansible/reset.yml "$@"

# Try playbooks and each role on throw-away Debian machines (root; tests/boxes says what it takes); arguments go to pytest
[group('develop')]
[no-exit-message]
test-ansible *ARGS: _env-dev
    @BOXES=all exec .venv/bin/python -m pytest tests/boxes tests/ansible "$@"

# Fill a directory from which a box without a way out is provisioned (miner_offline_dir): wheels and a CPython
[group('appliance')]
[no-exit-message]
offline-dir DIR: _env-dev
    @python3 toolchain/offline_dir.py "$1"

# Build the documentation's site into build/site: searchable without a network, every link checked
[group('develop')]
docs: _env-dev
    @exec .venv/bin/python toolchain/docs_site.py

# Write what the product is made of (CycloneDX) into dist/
[group('maintain')]
sbom: _env-dev
    @exec .venv/bin/python toolchain/sbom.py

# Build sdist, wheel, SBOM, container image (where buildah or docker is) and their sums into dist/
[group('maintain')]
release *ARGS: _env-dev
    @exec .venv/bin/python toolchain/release.py "$@"

# Remove what was made here: .venv, .tools, caches (not uv's own cache, which holds the built llama.cpp)
[group('maintain')]
clean:
    rm -rf .venv .tools .pytest_cache .ruff_cache .hypothesis dist build
    find app tests toolchain -name __pycache__ -prune -exec rm -rf {} +

[private]
_env:
    @python3 toolchain/install_env.py

[private]
_env-dev:
    @python3 toolchain/install_env.py --dev
