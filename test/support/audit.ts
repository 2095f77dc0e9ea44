export { audit } from '../../demo/audit.ts';
