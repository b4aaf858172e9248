// A messaging platform in small: server.js PROTOCOL WHERE COMMAND...
//
// PROTOCOL and WHERE say how tallyd is reached: "udp PORT", "tcp PORT", "uds PATH". Commands:
//
//   traffic N            N messages through every part of the platform
//   conversations N      N conversations, each with a connection and a message; half of the
//                        connections are closed again
//   conversations-labelled N   the same by a sender that tags every sample with its conversation
//   stray                one metric that nobody has declared
//
// It prints what it has done, as one line of JSON: that is what must be shown.
const StatsD = require('hot-shots');
const names = require('./generated/messaging_metrics.js');

const MESSAGE_LIMIT_BYTES = 5000000;
const POOL_SIZE = 20;
const CACHE_LIMIT_BYTES = 1 << 30;

const [protocol, where, ...commands] = process.argv.slice(2);

const options = { protocol, errorHandler: fail, maxBufferSize: 8192 };
if (protocol === 'uds') {
  options.path = where;
  options.maxBufferSize = 1432;
} else {
  options.host = '127.0.0.1';
  options.port = Number(where);
}
const client = new StatsD(options);

function fail(error) {
  console.error(error);
  process.exitCode = 1;
}

// What was done, by metric and labels, as the scrape must show it.
const done = {};
function note(metric, by, labels = {}) {
  const key = JSON.stringify([metric.name, Object.entries(labels).sort()]);
  done[key] = (done[key] || 0) + by;
}

const count = (metric, labels = {}, tags = {}) => {
  client.increment(metric.source, 1, { ...labels, ...tags });
  note(metric, 1, labels);
};
const change = (metric, by, tags = {}) => {
  client.gaugeDelta(metric.source, by, tags);
  note(metric, by);
};
const set = (metric, value) => {
  client.gauge(metric.source, value);
  note(metric, value - (done[JSON.stringify([metric.name, []])] || 0));
};
// Milliseconds are sent, seconds are shown.
const time = (metric, milliseconds, labels = {}) => {
  client.timing(metric.source, milliseconds, labels);
  note({ name: metric.name + '_count' }, 1, labels);
  note({ name: metric.name + '_sum' }, milliseconds / 1000, labels);
};
const size = (metric, value, labels = {}) => {
  client.histogram(metric.source, value, labels);
  note({ name: metric.name + '_count' }, 1, labels);
  note({ name: metric.name + '_sum' }, value, labels);
};

// The same sequence in each run.
let state = 1;
function below(limit) {
  state = (state * 48271) % 2147483647;
  return state % limit;
}
const oneOf = (list) => list[below(list.length)];

function open(tags = {}) {
  count(names.WS_CONNECTIONS_TOTAL, {}, tags);
  change(names.WS_ACTIVE_CONNECTIONS, 1, tags);
}

function close(reason, tags = {}) {
  count(names.WS_DISCONNECTIONS_TOTAL, { reason }, tags);
  change(names.WS_ACTIVE_CONNECTIONS, -1, tags);
}

function query(queryType) {
  time(names.DB_CONNECTION_ACQUIRE_SECONDS, below(20));
  time(names.DB_QUERY_DURATION_SECONDS, 1 + below(80), { query_type: queryType });
}

function cached(keyPrefix) {
  const found = below(10) < 8;
  time(names.REDIS_GET_LATENCY_SECONDS, below(8));
  count(found ? names.REDIS_CACHE_HITS_TOTAL : names.REDIS_CACHE_MISSES_TOTAL,
    { key_prefix: keyPrefix });
  if (found) return;
  query('select');
  time(names.REDIS_SET_LATENCY_SECONDS, below(8));
  if (below(4) === 0) count(names.REDIS_EVICTIONS_TOTAL);
}

function deliver() {
  if (below(50) === 0) {
    count(names.MESSAGE_DELIVERY_FAILURES_TOTAL,
      { reason: oneOf(['recipient_gone', 'queue_full', 'database', 'timeout']) });
    count(names.QUEUE_REDELIVERIES_TOTAL);
    count(names.MESSAGE_DELIVERY_RETRIES_TOTAL);
  }
  const path = oneOf(['websocket', 'push', 'poll']);
  if (path === 'websocket') {
    count(names.WS_MESSAGES_SENT_TOTAL);
    time(names.WS_SEND_DURATION_SECONDS, below(30));
    if (below(40) === 0) {
      count(names.WS_ERRORS_TOTAL, { kind: oneOf(['protocol', 'send', 'timeout']) });
    }
  }
  time(names.MESSAGE_DELIVERY_DURATION_SECONDS, 5 + below(200));
  time(names.MESSAGE_TOTAL_DELIVERY_LATENCY_SECONDS, 10 + below(900), { path });
  count(names.MESSAGES_DELIVERED_TOTAL);
}

function search() {
  const failed = below(100) === 0;
  count(names.MESSAGE_SEARCHES_TOTAL, { status: failed ? 'failed' : 'succeeded' });
  time(names.MESSAGE_SEARCH_DURATION_SECONDS, 10 + below(400));
  if (!failed) size(names.MESSAGE_SEARCH_RESULTS, below(50));
}

function message() {
  const bytes = below(300) === 0 ? MESSAGE_LIMIT_BYTES + 1 : 40 + below(4000);
  count(names.WS_MESSAGES_RECEIVED_TOTAL);
  size(names.MESSAGE_SIZE_BYTES, bytes);
  if (bytes > MESSAGE_LIMIT_BYTES) {
    count(names.OVERSIZED_MESSAGE_TOTAL);
    return;
  }
  if (below(200) === 0) {
    count(names.HIGH_RATE_USERS_TOTAL);
    count(names.MESSAGE_RATE_SPIKE_TOTAL);
  }
  cached(oneOf(['session', 'presence', 'conversation', 'user']));
  query('insert');
  count(names.MESSAGES_SENT_TOTAL);
  time(names.MESSAGE_AGE_IN_QUEUE_SECONDS, below(700));
  deliver();
  if (below(5) === 0) search();
}

// What is read off and not counted: the pool, the cache, the queue.
function readings(messages) {
  const active = 3 + below(POOL_SIZE - 3);
  set(names.DB_CONNECTIONS_ACTIVE, active);
  set(names.DB_CONNECTIONS_IDLE, POOL_SIZE - active);
  set(names.DB_CONNECTIONS_WAITING, 1 + below(3));
  set(names.REDIS_MEMORY_USED_BYTES, CACHE_LIMIT_BYTES / 2 + below(1000));
  set(names.REDIS_MEMORY_LIMIT_BYTES, CACHE_LIMIT_BYTES);
  set(names.GLOBAL_MESSAGE_RATE_PER_SECOND, messages);
  set(names.QUEUE_CONSUMER_RATE_PER_SECOND, messages - 1);
  set(names.QUEUE_PROCESSING_LAG_MESSAGES, 1 + below(9));
}

function traffic(messages) {
  for (let i = 0; i < 10; i++) open();
  for (let i = 0; i < messages; i++) message();
  for (const reason of ['client', 'server', 'timeout', 'error']) close(reason);
  query('update');
  query('delete');
  readings(messages);
}

// Waits until the kernel has taken what was sent, so that memory does not grow with it.
async function drained() {
  do await new Promise((resolve) => setImmediate(resolve));
  while (client.messagesInFlight > 0);
}

async function conversations(n, labelled) {
  for (let i = 0; i < n; i++) {
    const tags = labelled ? { conversation_id: 'c' + i } : {};
    change(names.WS_ACTIVE_CONNECTIONS, 1, tags);
    count(names.MESSAGES_SENT_TOTAL, {}, tags);
    if (i % 2 === 0) change(names.WS_ACTIVE_CONNECTIONS, -1, tags);
    if (i % 1000 === 999) await drained();
  }
}

async function main() {
  for (let i = 0; i < commands.length; i++) {
    if (commands[i] === 'traffic') traffic(Number(commands[++i]));
    else if (commands[i] === 'stray') client.increment('messages.nobody_declared');
    else if (commands[i].startsWith('conversations')) {
      const labelled = commands[i] === 'conversations-labelled';
      await conversations(Number(commands[++i]), labelled);
    } else throw new Error(`unknown command ${commands[i]}`);
    await drained();
  }
  client.close(() => console.log(JSON.stringify(
    Object.entries(done).map(([key, value]) => [...JSON.parse(key), value]))));
}

main().catch(fail);
