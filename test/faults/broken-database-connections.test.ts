import { describeBrokenConnections } from './broken-connections.ts';

describeBrokenConnections({
  name: 'Postgres',
  proxyOf: (stores) => stores.databaseProxy,
  toldAs: 'database unreachable',
});
