# Sends with ruby-statsd: send_ruby.rb PORT. (Over TCP it ends no line, so UDP it is.)
require 'statsd'

client = Statsd.new('127.0.0.1', ARGV[0].to_i)
client.namespace = 'ruby'
client.increment('orders')
client.count('orders', 4)
client.decrement('refused')
client.gauge('depth', 12.5)
client.timing('checkout', 250)
client.time('block') { nil }
client.set('visitors', 'ann')
client.set('visitors', 'bob')
client.set('visitors', 'ann')
client.increment('Module::name')
client.batch do |batch|
  batch.count('left', 2)
  batch.count('right', 2)
end
