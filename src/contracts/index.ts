export * from './errors.ts';
export * from './limits.ts';
export * from './metadata.ts';
export * from './parse.ts';
export * from './payloads.ts';
export * from './results.ts';
export * from './text.ts';
export * from './vocabulary.ts';
