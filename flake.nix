{
  description = "Loosh Miner: a miner for Bittensor subnet 78, as a package, as NixOS modules and as a whole machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      # The locks' wheels are downloaded for this platform; the subnet asks for it too.
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      # CUDA's licence must be accepted before anything that links to it is built.
      pkgsUnfree = import nixpkgs {
        inherit system;
        config.allowUnfree = true;
      };
      miner = pkgs.callPackage ./nix/package.nix { };
      command =
        name: words: about:
        let
          script = pkgs.writeShellApplication {
            inherit name;
            text = ''exec ${lib.getExe miner} ${words} "$@"'';
          };
        in
        {
          type = "app";
          program = lib.getExe script;
          meta.description = about;
        };
      # Hands the flake over to a module, and gives the module a name, so that importing it twice is importing it once.
      module = file: {
        _file = toString file;
        key = toString file;
        imports = [ (lib.modules.importApply file { inherit self; }) ];
      };
    in
    {
      packages.${system} = {
        default = miner;
        loosh-miner = miner;
        # llama.cpp on an NVIDIA GPU; everything else is the same.
        loosh-miner-cuda = pkgsUnfree.callPackage ./nix/package.nix { cudaSupport = true; };
        image = pkgs.callPackage ./nix/image.nix { loosh-miner = miner; };
        wheelhouse = pkgs.callPackage ./nix/wheelhouse.nix { };
      }
      # The appliance's disk images: nix build .#appliance-qemu-efi
      // lib.mapAttrs' (name: image: lib.nameValuePair "appliance-${name}" image) (
        lib.getAttrs [
          "qemu-efi"
          "raw-efi"
        ] self.nixosConfigurations.appliance.config.system.build.images
      );

      apps.${system} = {
        default = command "loosh-miner-serve" "serve" "Run the miner; without a wallet in development mode, on loopback";
        register = command "loosh-miner-register" "register" "Post the miner's address on chain, and see that it is there";
        doctor = command "loosh-miner-doctor" "doctor" "Look at everything the miner needs to earn";
      };

      devShells.${system}.default = pkgs.mkShell {
        packages = [
          pkgs.cmake
          pkgs.iproute2
          pkgs.just
          pkgs.ninja
          pkgs.nftables
          pkgs.nixfmt-tree
          pkgs.python312
          pkgs.uv
        ];
        # The recipes make .venv with uv: from this python, never from a downloaded one.
        env = {
          UV_PYTHON = lib.getExe pkgs.python312;
          UV_PYTHON_DOWNLOADS = "never";
          # For wheels that were compiled elsewhere.
          LD_LIBRARY_PATH = lib.makeLibraryPath [
            pkgs.stdenv.cc.cc.lib
            pkgs.zlib
          ];
        };
      };

      formatter.${system} = pkgs.nixfmt-tree;

      nixosModules = {
        default = module ./nix/modules/default.nix;
        loosh-miner = self.nixosModules.default;
        appliance = {
          imports = [
            self.nixosModules.default
            ./nix/hosts/appliance/configuration.nix
          ];
        };
      };

      nixosConfigurations.appliance = lib.nixosSystem {
        modules = [
          self.nixosModules.appliance
          ./nix/hosts/appliance/hardware.nix
        ];
      };

      checks.${system} = {
        package = miner;
        vm = pkgs.testers.runNixOSTest (import ./nix/tests/miner.nix { inherit self pkgs; });
        appliance = import ./nix/tests/appliance.nix { inherit self pkgs; };
      };
    };
}
