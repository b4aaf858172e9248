// Sends with node-statsd: send_node_statsd.js PORT.
const StatsD = require('node-statsd');

const client = new StatsD({ host: '127.0.0.1', port: Number(process.argv[2]), prefix: 'node.' });
const calls = [
  (done) => client.increment('orders', 1, 1, [], done),
  (done) => client.increment('orders', 4, 1, [], done),
  (done) => client.increment('tagged', 2, 1, ['site:shop', 'country:de'], done),
  (done) => client.gauge('depth', 12.5, 1, [], done),
  (done) => client.timing('checkout', 250, 1, [], done),
  (done) => client.histogram('size', 3, 1, [], done),
  (done) => client.set('visitors', 'ann', 1, [], done),
  (done) => client.unique('visitors', 'bob', 1, [], done),
  (done) => client.set('visitors', 'ann', 1, [], done),
  (done) => client.increment(['left', 'right'], 2, 1, [], done),
];

function next(error) {
  if (error) {
    console.error(error);
    process.exitCode = 1;
  }
  const call = calls.shift();
  if (call) call(next);
  else client.close();
}
next();
