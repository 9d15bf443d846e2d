#pragma once

#include <string>

#include "espalier/base/api.h"

namespace espalier {

/// The folder that holds libespalier_base.so, canonical: whatever program uses the library, its
/// plugins lie beside it. Empty when the system can't tell.
ESPALIER_API std::string library_folder();

}  // namespace espalier
