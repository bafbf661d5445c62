# The miner, out of requirements.lock and nothing else: the wheels of nix/wheelhouse.nix, llama.cpp from its source with
# pyproject.toml's own flags, and this project, in what python's venv would look like.
{
  lib,
  stdenv,
  callPackage,
  autoAddDriverRunpath,
  autoPatchelfHook,
  cmake,
  cudaPackages,
  makeWrapper,
  ninja,
  python312,
  zlib,
  cudaSupport ? false,
}:
let
  pyproject = builtins.fromTOML (builtins.readFile ../pyproject.toml);
  wheelhouse = callPackage ./wheelhouse.nix { };
  llamaSource = callPackage ./llama-source.nix { };
  builder = python312.withPackages (python: [
    python.pathspec
    python.pip
    python.scikit-build-core
    python.uv-build
  ]);
  # "cmake.define.GGML_NATIVE" = "OFF" and the like: portable code, the same as outside of Nix.
  llamaSettings =
    pyproject.tool.uv.config-settings-package.llama-cpp-python
    // lib.optionalAttrs cudaSupport { "cmake.define.GGML_CUDA" = "ON"; };
  settingFlags = lib.mapAttrsToList (name: value: "--config-settings=${name}=${value}") llamaSettings;
in
stdenv.mkDerivation {
  pname = pyproject.project.name;
  inherit (pyproject.project) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../LICENSE
      ../README.md
      ../app
      ../pyproject.toml
      ../requirements.lock
    ];
  };

  nativeBuildInputs = [
    autoPatchelfHook
    builder
    cmake
    makeWrapper
    ninja
  ]
  ++ lib.optionals cudaSupport [
    autoAddDriverRunpath
    cudaPackages.cuda_nvcc
  ];
  # The wheels' libraries need no more than these of the system.
  buildInputs = [
    stdenv.cc.cc.lib
    zlib
  ]
  ++ lib.optionals cudaSupport [
    cudaPackages.cuda_cccl
    cudaPackages.cuda_cudart
    cudaPackages.libcublas
  ];
  # Comes with the driver, at run time.
  autoPatchelfIgnoreMissingDeps = lib.optionals cudaSupport [ "libcuda.so.1" ];
  # Libraries out of wheels are laid out so that stripping breaks some of them.
  dontStrip = true;
  # scikit-build-core calls them itself.
  dontUseCmakeConfigure = true;
  dontUseNinjaBuild = true;
  dontUseNinjaInstall = true;
  dontUseNinjaCheck = true;

  env = {
    PIP_DISABLE_PIP_VERSION_CHECK = "1";
    PIP_NO_INDEX = "1";
    SOURCE_DATE_EPOCH = "315532800"; # 1980: what a zip file can say at the earliest
  };

  buildPhase = ''
    runHook preBuild
    export HOME=$TMPDIR CMAKE_BUILD_PARALLEL_LEVEL=$NIX_BUILD_CORES
    wheel="${builder.interpreter} -m pip wheel --no-deps --no-build-isolation --wheel-dir built"
    $wheel ${lib.escapeShellArgs settingFlags} ${llamaSource}
    $wheel .
    runHook postBuild
  '';

  installPhase = ''
    runHook preInstall
    ${python312.interpreter} -m venv --without-pip $out
    sed '/^llama-cpp-python==/,/[^\\]$/d' requirements.lock > wheels.lock
    install="${builder.interpreter} -m pip --python $out/bin/python install --no-deps --no-compile"
    $install --require-hashes --find-links ${wheelhouse} --requirement wheels.lock
    $install built/*.whl
    rm $out/bin/[Aa]ctivate*
    runHook postInstall
  '';

  # Only the miner's own commands: the rest of bin/ is other packages' and python's.
  postFixup = ''
    mkdir $out/libexec
    mv $out/bin/loosh-miner $out/bin/fiber-post-ip $out/libexec/
    for command in loosh-miner fiber-post-ip; do
      makeWrapper $out/libexec/$command $out/bin/$command --set PYTHONNOUSERSITE 1 --set PYTHONDONTWRITEBYTECODE 1
    done
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    export HOME=$TMPDIR
    $out/bin/loosh-miner version
    $out/bin/loosh-miner config check
    $out/bin/python -c "import llama_cpp, bittensor_core, granian, uvloop"
    runHook postInstallCheck
  '';

  passthru = { inherit wheelhouse cudaSupport; };

  meta = {
    inherit (pyproject.project) description;
    license = lib.licenses.mit;
    mainProgram = "loosh-miner";
    platforms = [ "x86_64-linux" ];
  };
}
