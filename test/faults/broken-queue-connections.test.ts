import { describeBrokenConnections } from './broken-connections.ts';

describeBrokenConnections({
  name: 'its queue',
  proxyOf: (stores) => stores.queueProxy,
  toldAs: 'queue connection error',
});
