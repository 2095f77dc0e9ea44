/**
 * Copies what the program reads at run time beside its modules: migrations and shell programs.
 *
 * Usage: node scripts/copy-assets.mjs <output folder of src>
 */
import { cpSync } from 'node:fs';

const ASSET = /\.(sql|json|sh|awk)$/;
const [output] = process.argv.slice(2);
cpSync('src', output, {
  recursive: true,
  filter: (path) => !/\.[^/]+$/.test(path) || ASSET.test(path),
});
