// k6: a load test of the server, in the stages of the monitoring guide.
// Place: anywhere: k6 run --no-usage-report load-test.js
// Reload: is read at each run

// Load test of Pocket Agent Server for k6 (1.1.0 or later): users come and go in stages; each holds one
// long-lived WebSocket and asks for the list of projects again and again. Nothing is changed on the server.
//
//   k6 run --no-usage-report load-test.js
//
// From the environment (or -e NAME=VALUE):
//   PA_URL               the server; wss://127.0.0.1:8443/ws
//   PA_TOKEN             a device's token (pocket-agent devices add NAME --print-token)
//   LOAD_INSECURE        1: do not check the certificate. Better: SSL_CERT_FILE=FILE, which names it
//   LOAD_TIME_SCALE      factor for the length of the stages; 1 is 16 minutes
//   LOAD_PEAK_USERS      users at the peak; 100
//   LOAD_INTERVAL_MS     time between two requests of a user; 1000
//   LOAD_SOCKET_SECONDS  how long a user keeps a socket before it opens another; 300
//   LOAD_MAX_P95_MS      accepted 95th percentile of the round trip; 500
//
// The exit status is not 0 when any check fails, the round trip is too long, or no socket was opened.
import { check, sleep } from 'k6';
import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';
import ws from 'k6/ws';

const url = __ENV.PA_URL || 'wss://127.0.0.1:8443/ws';
const timeScale = number('LOAD_TIME_SCALE', 1);
const peakUsers = number('LOAD_PEAK_USERS', 100);
const intervalMs = number('LOAD_INTERVAL_MS', 1000);
const socketMs = number('LOAD_SOCKET_SECONDS', 300) * 1000;
const maxP95Ms = number('LOAD_MAX_P95_MS', 500);
const lastAnswersMs = 5000;
const retrySeconds = 1;

export const options = {
  stages: [
    stage(2, 0.1),
    stage(5, 0.5),
    stage(2, 1),
    stage(5, 1),
    stage(2, 0),
  ],
  insecureSkipTLSVerify: __ENV.LOAD_INSECURE === '1',
  thresholds: {
    checks: ['rate==1'],
    round_trip_ms: [`p(95)<=${maxP95Ms}`],
    sockets_opened: ['count>0'],
  },
};

const roundTrip = new Trend('round_trip_ms', false);
const socketsOpened = new Counter('sockets_opened');
let lastFault = ''; // of this user: each has variables of its own

export default function () {
  if (exec.scenario.progress >= 1) {
    sleep(retrySeconds); // the time is over: nobody comes for a moment only
    return;
  }
  const headers = __ENV.PA_TOKEN ? { Authorization: `Bearer ${__ENV.PA_TOKEN}` } : {};
  const response = ws.connect(url, { headers }, attend);
  const opened = check(response, { 'status is 101': (r) => Boolean(r) && r.status === 101 });
  if (!opened) {
    const fault = `${url}: ${response.error || `HTTP status ${response.status}`}`;
    if (fault !== lastFault) {
      console.error(fault); // once per user, not once per attempt
      lastFault = fault;
    }
    sleep(retrySeconds); // or a server that is down would be asked as fast as this machine can
  }
}

// The life of one socket.
function attend(socket) {
  const sentAt = new Map();
  let asked = 0;
  let leaving = false;

  function ask() {
    asked += 1;
    const id = `${exec.vu.idInTest}-${exec.vu.iterationInInstance}-${asked}`;
    sentAt.set(id, Date.now());
    socket.send(JSON.stringify({ type: 'project_list', request_id: id }));
  }

  function leave() {
    check(sentAt, { 'each request was answered': (waiting) => waiting.size === 0 });
    socket.close();
  }

  socket.on('open', () => {
    socketsOpened.add(1);
    const closeAt = Date.now() + socketMs;
    ask();
    socket.setInterval(() => {
      if (leaving) {
        return;
      }
      if (Date.now() < closeAt && exec.scenario.progress < 1) {
        ask();
        return;
      }
      leaving = true;
      if (sentAt.size === 0) {
        leave();
      } else {
        socket.setTimeout(leave, lastAnswersMs);
      }
    }, intervalMs);
  });

  socket.on('message', (text) => {
    const message = read(text);
    if (message !== null && !sentAt.has(message.request_id)) {
      return; // a push: another client has made or deleted a project
    }
    check(message, { 'received project list': (m) => m !== null && m.type === 'project_list_response' });
    if (message === null) {
      return;
    }
    roundTrip.add(Date.now() - sentAt.get(message.request_id));
    sentAt.delete(message.request_id);
    if (leaving && sentAt.size === 0) {
      leave();
    }
  });

  socket.on('close', () => {
    check(leaving, { 'socket stayed open': (ours) => ours });
  });
}

function stage(minutes, share) {
  const milliseconds = Math.max(1, Math.round(minutes * 60000 * timeScale));
  return { duration: `${milliseconds}ms`, target: Math.ceil(share * peakUsers) };
}

function number(name, usual) {
  const value = __ENV[name] === undefined ? usual : Number(__ENV[name]);
  if (!(value > 0)) {
    throw new Error(`${name} must be a number above 0, not ${__ENV[name]}`);
  }
  return value;
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    return null;
  }
}
