#pragma once

#include "launch.h"
#include "linuxio.h"
#include "memfd.h"
#include "recvfd.h"
