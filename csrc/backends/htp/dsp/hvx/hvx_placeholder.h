// A placeholder for the device's vector floats, for counting packets in an emulator without them.
// Each qf32 intrinsic becomes an integer instruction of v67 that uses the same units of the vector
// pipeline: multiplications both multipliers, sums and conversions the shifter. The compiler then
// makes the packets that it makes for a device, and qemu-hexagon can count them. The computed
// values are meaningless.
#ifndef PILLION_HVX_PLACEHOLDER_H
#define PILLION_HVX_PLACEHOLDER_H

#define Q6_Vqf32_vmpy_VsfVsf(a, b) Q6_Vw_vmpyo_VwVh_s1_sat(a, b)
#define Q6_Vqf32_vadd_VsfVsf(a, b) Q6_Vw_vasl_VwVw(a, b)
#define Q6_Vqf32_vsub_VsfVsf(a, b) Q6_Vw_vasr_VwVw(a, b)
#define Q6_Vqf32_vadd_Vqf32Vsf(a, b) Q6_Vw_vlsr_VwVw(a, b)
#define Q6_Vqf32_vadd_Vqf32Vqf32(a, b) Q6_Vh_vasl_VhVh(a, b)
#define Q6_Vsf_equals_Vqf32(a) Q6_Vw_vnormamt_Vw(a)
#define Q6_Vsf_equals_Vw(a) Q6_Vuw_vcl0_Vuw(a)
#define Q6_Wqf32_vmpy_VhfVhf(a, b) Q6_Ww_vmpy_VhVh(a, b)

#endif
