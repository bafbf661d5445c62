# Three machines: the miner as its module sets it up, a stand-in for vLLM, and a validator.
{ self, pkgs }:
let
  inherit (pkgs) lib;
  package = self.packages.x86_64-linux.loosh-miner;
  # The stand-in of the project's own tests, which speaks the part of vLLM's API that the miner uses.
  stub = lib.fileset.toSource {
    root = ../..;
    fileset = ../../tests/stubs/engine.py;
  };
in
{
  name = "loosh-miner";

  nodes = {
    miner =
      { nodes, ... }:
      {
        imports = [ self.nixosModules.default ];
        services.loosh-miner = {
          enable = true;
          engine = "external";
          external.addresses = [ "http://${nodes.engine.networking.primaryIPAddress}:8001/v1" ];
          hotkeyFile = "/var/lib/secrets/hotkey";
          openFirewall = true;
          validatorFirewall.enable = true;
          settings = {
            # No chain can be reached from here: any hotkey is answered.
            ENABLE_VALIDATOR_WHITELIST = false;
            # The one machine that the validators' firewall lets in here.
            FIREWALL_ALLOW = [ nodes.validator.networking.primaryIPAddress ];
            ENABLE_RATE_LIMITS = false;
          };
        };
        # A throw-away hotkey (the well-known development key //Alice), where an operator would put his own.
        systemd.tmpfiles.rules = [ "d /var/lib/secrets 0700 root root -" ];
        systemd.services.test-hotkey = {
          wantedBy = [ "multi-user.target" ];
          before = [ "loosh-miner.service" ];
          requiredBy = [ "loosh-miner.service" ];
          serviceConfig.Type = "oneshot";
          script = ''
            umask 077
            echo '{"secretPhrase": "bottom drive obey lake curtain smoke basket hold race lonely fit walk"}' > /var/lib/secrets/hotkey
          '';
        };
        environment.systemPackages = [ pkgs.nftables ];
      };

    engine = {
      networking.firewall.allowedTCPPorts = [ 8001 ];
      systemd.services.engine = {
        description = "Stand-in for vLLM";
        wantedBy = [ "multi-user.target" ];
        environment.PYTHONPATH = "${stub}";
        serviceConfig.ExecStart = "${package}/bin/python -m tests.stubs.engine --host 0.0.0.0 --port 8001 --control-port 8002 --model stub/model --forever";
      };
    };

    validator = {
      environment.systemPackages = [ package ];
    };
  };

  testScript =
    { nodes, ... }:
    let
      address = nodes.miner.networking.primaryIPAddress;
      ask = "loosh-miner challenge --url http://${address}:8000 --json 'What is a Bittensor subnet?'";
    in
    ''
      import json

      start_all()
      engine.wait_for_open_port(8001)

      with subtest("the miner starts and is ready"):
          miner.wait_for_unit("loosh-miner.service")
          miner.wait_until_succeeds("curl -fsS http://127.0.0.1:8000/availability | grep -q true", timeout=120)

      with subtest("it answers a validator's encrypted challenge"):
          answer = json.loads(validator.succeed("${ask}"))
          assert answer["response_text"], answer

      with subtest("it comes back by itself"):
          miner.succeed("systemctl kill --signal=KILL loosh-miner.service")
          validator.wait_until_succeeds("${ask}", timeout=120)

      with subtest("the hotkey is nobody's to read but the miner's"):
          miner.fail("su -s /bin/sh nobody -c 'cat /var/lib/secrets/hotkey'")
          miner.fail("systemctl show loosh-miner.service | grep -q 'bottom drive'")

      with subtest("the admin listener is reached from the machine itself only"):
          miner.succeed("curl -fsS http://127.0.0.1:8010/metrics | grep -q loosh_")
          validator.fail("curl -fsS --max-time 5 http://${address}:8010/metrics")

      with subtest("without a list of validators their firewall is refused, and closes nothing"):
          miner.fail("systemctl start loosh-miner-firewall.service")
          miner.fail("nft list table inet loosh_miner")
          engine.succeed("curl -fsS --max-time 10 http://${address}:8000/availability")

      with subtest("the last good addresses are let in after a boot, strangers are not"):
          last_good = json.dumps({"applied": 1.0, "addresses": ["9.9.9.9"], "ruleset": "", "listing": ""})
          miner.succeed(f"umask 077; echo '{last_good}' > /var/lib/loosh-miner/firewall.json")
          miner.succeed("systemctl restart loosh-miner-firewall-restore.service")
          miner.succeed("nft list table inet loosh_miner")
          validator.succeed("${ask}")
          engine.fail("curl -fsS --max-time 5 http://${address}:8000/availability")

      with subtest("the sandbox holds"):
          miner.succeed("systemd-analyze security --threshold=15 loosh-miner.service")

      with subtest("a stop lets go in time"):
          miner.succeed("timeout 90 systemctl stop loosh-miner.service")
    '';
}
