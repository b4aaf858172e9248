// Sends with hot-shots: send_hot_shots.js PROTOCOL WHERE, the latter a port or a socket path.
const StatsD = require('hot-shots');

const [protocol, where] = process.argv.slice(2);
const options = { protocol, errorHandler: fail, prefix: 'hot.', globalTags: { env: 'test' } };
if (protocol === 'uds') {
  options.path = where;
} else {
  options.host = '127.0.0.1';
  options.port = Number(where);
}

function fail(error) {
  console.error(error);
  process.exitCode = 1;
}

const client = new StatsD(options);
client.increment('orders');
client.increment('orders', 4);
client.decrement('refused');
client.increment('orders', { site: 'shop', country: 'de' });
client.gauge('depth', 12.5);
client.gaugeDelta('depth', 2);
client.gaugeDelta('depth', -4);
client.timing('checkout', 250);
client.timing('checkout', 750, { site: 'shop' });
client.histogram('size', 3);
client.distribution('size', 7);
client.set('visitors', 'ann');
client.set('visitors', 'bob');
client.set('visitors', 'ann');
client.unique('visitors', 'cleo');
client.increment(['left', 'right'], 2);
client.close(() => {});
