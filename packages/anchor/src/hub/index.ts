export { cachedSnapshot, hubOf, parseRepo, type Hub, type RepoId } from "./cache.ts";
export {
  catalogue,
  findPublished,
  publishedStatus,
  requirePublished,
  type Published,
  type PublishedName,
  type PublishedStatus,
} from "./catalogue.ts";
export { pull, type PullOptions, type PullResult } from "./download.ts";
