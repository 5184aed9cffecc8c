#pragma once

#include "launch.h"
#include "resolver.h"
#include "linuxio.h"
#include "heap.h"
#include "memfd.h"
#include "processors.h"
#include "recvfd.h"
