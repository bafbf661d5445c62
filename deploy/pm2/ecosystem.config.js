// The miner under PM2: `pm2 start deploy/pm2/ecosystem.config.js`. See docs/pm2.md.
//
// MINER_WORKDIR         where `.env` lies (default: this checkout)
// PYTHON_INTERPRETER    a python that has the miner (default: MINER_WORKDIR/.venv/bin/python)
// API_HOST, API_PORT    as the settings of that name; they win over `.env`
"use strict";

const path = require("node:path");

const checkout = path.resolve(__dirname, "..", "..");
const workdir = path.resolve(process.env.MINER_WORKDIR || checkout);
const python = process.env.PYTHON_INTERPRETER || path.join(workdir, ".venv", "bin", "python");

// PM2 would hand on the whole environment of whoever starts it, and `pm2 save` writes that to a file: so only these.
const handedOn = ["HOME", "USER", "PATH", "LANG", "TZ", "XDG_STATE_HOME", "API_HOST", "API_PORT"];
const environment = Object.fromEntries(
  handedOn.filter((name) => process.env[name]).map((name) => [name, process.env[name]]),
);

module.exports = {
  apps: [
    {
      name: "loosh-miner",
      cwd: workdir,
      script: python,
      args: ["-m", "app", "serve"],
      interpreter: "none",
      exec_mode: "fork", // one process: sessions and the queue live in its memory
      instances: 1,
      filter_env: [""], // leave out what holds "", which is everything; PM2 takes `true` for no list at all
      env: environment,

      autorestart: true,
      exp_backoff_restart_delay: 500, // milliseconds, growing to 15 s while it keeps ending
      stop_exit_codes: [2], // settings or wallet are wrong: starting again would not help
      // A stop finishes the answers in flight: DRAIN_TIMEOUT_SECONDS (60), 15 s to close connections, and a little.
      kill_timeout: 85000,
      treekill: false, // the stop signal is for the miner alone: it ends what it started

      // The log has its own times (LOG_FORMAT=json: one object a line). `pm2 install pm2-logrotate` keeps it small.
      merge_logs: true,
    },
  ],
};
