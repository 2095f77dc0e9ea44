/**
 * Which folder of src may import which: `producers → queues → consumers → environments → db`. Everyone may import
 * contracts and lib; only the command line imports commands.
 */
const MAY_IMPORT = {
  contracts: [],
  lib: ['contracts'],
  queues: [],
  producers: ['queues'],
  outbox: ['queues', 'db'],
  consumers: ['queues', 'outbox', 'environments', 'db', 'secrets'],
  environments: ['db', 'ssh', 'secrets'],
  db: [],
  execution: ['ssh', 'secrets'],
  ssh: ['secrets'],
  secrets: [],
  embedded: [],
  api: ['console', 'queues', 'db'],
  console: ['queues'],
};

const directions = Object.entries(MAY_IMPORT).map(([folder, allowed]) => {
  const everyones = folder === 'contracts' ? [] : ['contracts', 'lib'];
  return {
    name: `${folder}-imports-only-${[...allowed, ...everyones].join('-') || 'itself'}`,
    severity: 'error',
    from: { path: `^src/${folder}/` },
    to: { path: '^src/', pathNot: `^src/(${[folder, ...everyones, ...allowed].join('|')})/` },
  };
});

export default {
  forbidden: [
    ...directions,
    {
      name: 'nothing-imports-commands',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/(commands/|cli\\.ts$)' },
      to: { path: '^src/(commands/|cli\\.ts$)' },
    },
    {
      name: 'src-imports-only-src',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: '^(test|testing|demo|soak|bench)/' },
    },
    {
      name: 'testing-imports-only-src',
      severity: 'error',
      from: { path: '^testing/' },
      to: { path: '^(test|demo|soak|bench)/' },
    },
    {
      name: 'demo-soak-and-bench-import-only-src-and-testing',
      severity: 'error',
      from: { path: '^(demo|soak|bench)/' },
      to: { path: '^(test|demo|soak|bench)/', pathNot: '^$1/' },
    },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
  ],
  options: {
    parser: 'swc',
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|bench/dist)/' },
  },
};
