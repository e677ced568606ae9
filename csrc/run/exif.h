// How a picture is to be turned, from the Exif block of its file.
#pragma once
#include <string>

namespace pillion::run {

// 1 .. 8 as in Exif's tag 274 of a JPEG, PNG or WebP file; 1, upright, where there is none. Reads
// nothing past the end of a broken file.
int exif_orientation(const std::string& file);

}  // namespace pillion::run
