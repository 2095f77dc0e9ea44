export * from './errors.ts';
export * from './fields.ts';
export * from './messages.ts';
export * from './vocabulary.ts';
