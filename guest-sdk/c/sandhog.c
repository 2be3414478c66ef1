/* The header's functions, for languages that call C. */
#define SANDHOG_IMPLEMENTATION
#include "sandhog.h"
