"""What a site has ready and where consumers find it: version folders, staged versions, the pointer, and the answer to
"where is it now" (docs/0012-standby-versions.md)."""
