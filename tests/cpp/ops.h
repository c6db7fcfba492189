// The kernels of csrc/cpu by the names that the vectors use.
#pragma once

#include <map>
#include <string>

#include "run.h"

using Op = void (*)(Run& run);

const std::map<std::string, Op>& ops();
