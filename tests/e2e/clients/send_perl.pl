# Sends with Net::Statsd: send_perl.pl PORT.
use strict;
use warnings;
use Net::Statsd;

$Net::Statsd::HOST = '127.0.0.1';
$Net::Statsd::PORT = $ARGV[0];
Net::Statsd::increment('perl.orders');
Net::Statsd::update_stats('perl.orders', 4);
Net::Statsd::decrement('perl.refused');
Net::Statsd::increment(['perl.left', 'perl.right']);
Net::Statsd::gauge('perl.depth', 12.5);
Net::Statsd::gauge('perl.many', 1, 'perl.many', 7);
Net::Statsd::timing('perl.checkout', 250);
Net::Statsd::send({ 'perl.sampled' => '1|c|@0.5' }, 1);
