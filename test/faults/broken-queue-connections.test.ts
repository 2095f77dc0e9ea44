import { describeBrokenConnections } from './broken-connections.ts';

describeBrokenConnections({
  name: 'its queue',
  proxyOf: (stores) => stores.queueProxy,
  toldAs: 'trouble with the queue’s connection',
});
